"""HTML panels of images for notebooks and the book, side by side or with a slider."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from iscam.plots import show_image, show_overlay
from iscam.transforms import canonical_transform

#: Width of an inlined image, in pixels.
PIXELS = 300


@dataclass(frozen=True)
class Panel:
    """An image with a title and one line below it."""

    image: str  # the return value of `inlined`
    title: str
    line: str = ""

    def html(self, attributes: str = "") -> str:
        text = f"<b>{escape(self.title)}</b> {escape(self.line)}"
        alternative = escape(f"{self.title}: {self.line}" if self.line else self.title)
        return (
            f'<figure {attributes}><img src="{self.image}" alt="{alternative}"><figcaption>{text}</figcaption></figure>'
        )


def inlined(
    image: Tensor, saliency_map: Tensor | None = None, transform: Callable[..., Any] | None = canonical_transform
) -> str:
    """Return an image (3, height, width), with the map (height, width) over it if given, as the `src` of an `<img>`.

    `transform` is the transform of the network. Its normalisation is undone for display.
    """
    figure = Figure(figsize=(3, 3 * image.shape[1] / image.shape[2]), dpi=PIXELS / 3)
    axes = figure.add_axes((0, 0, 1, 1))
    if saliency_map is None:
        show_image(axes, image, transform=transform)
    else:
        show_overlay(axes, image, saliency_map, transform=transform)
    file = io.BytesIO()
    figure.savefig(file, format="webp", pil_kwargs={"quality": 85})
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def panels(shown: Sequence[Panel]) -> str:
    """Return the HTML of panels in rows of four, or in rows of two on a narrow screen."""
    return f'{STYLE}<div class="panels">{"".join(panel.html() for panel in shown)}</div>'


def slider(frames: dict[tuple[str, int], Panel], chosen: tuple[str, int], printed: Collection[int]) -> str:
    """Return the HTML of a panel that is selected with a slider over N and a choice of the schedule.

    `frames` maps (schedule, N) to a panel. The mouse, touch and the arrow keys move the slider. The slider needs no
    network connection. In print and without scripts, the panels whose N is in `printed` appear side by side.
    """
    name = "slider-" + hashlib.sha256(repr(frames).encode()).hexdigest()[:8]
    schedules = list(dict.fromkeys(schedule for schedule, _ in frames))
    steps = sorted({n for _, n in frames})
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{escape(schedule)}"'
        f"{' checked' if schedule == chosen[0] else ''}> {escape(schedule)}</label>"
        for schedule in schedules
    )
    figures = "".join(
        panel.html(f'data-frame="{escape(schedule)} {n}"' + (' class="printed"' if n in printed else ""))
        for (schedule, n), panel in frames.items()
    )
    return f"""{STYLE}<div class="panels slider" id="{name}">
<form>
<label>steps N = <output>{chosen[1]}</output>
<input type="range" min="{steps[0]}" max="{steps[-1]}" step="1" value="{chosen[1]}" aria-label="steps N"></label>
<fieldset><legend>schedule</legend>{choices}</fieldset>
</form>
{figures}</div>
<script>{SCRIPT.replace("NAME", name)}</script>"""


STYLE = """<style>
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.8em; margin: 1em 0; }
.panels figure { margin: 0; break-inside: avoid; }
.panels img { width: 100%; height: auto; display: block; border-radius: 4px; }
.panels figcaption { font-size: 0.9rem; line-height: 1.35; margin: 0.3em 0 0; text-align: left; }
.panels figcaption b { display: block; }
.slider form { grid-column: 1 / -1; display: none; }
.slider figure:not(.printed) { display: none; }
@media (max-width: 600px) { .panels { grid-template-columns: repeat(2, 1fr); } }
@media screen {
  .slider.live { display: block; max-width: 40em; }
  .slider.live form { display: block; }
  .slider.live figure { display: none; }
  .slider.live figure.shown { display: grid; grid-template-columns: 300px 1fr; gap: 1em; align-items: center; }
  .slider form > label { display: block; max-width: 30rem; }
  .slider input[type=range] { width: 100%; height: 2em; display: block; }
  .slider fieldset { border: 0; padding: 0; margin: 0.3em 0 1em; display: flex; flex-wrap: wrap; gap: 0 1.5em; }
  .slider legend { float: left; padding: 0; margin: 0 0.5em 0 0; width: auto; font-size: inherit; }
}
@media screen and (max-width: 600px) { .slider.live figure.shown { display: block; } }
</style>"""


SCRIPT = """
(() => {
  const slider = document.getElementById("NAME"), form = slider.querySelector("form");
  const range = slider.querySelector("input[type=range]"), output = slider.querySelector("output");
  const show = () => {
    const frame = `${form.querySelector("input[type=radio]:checked").value} ${range.value}`;
    for (const figure of slider.querySelectorAll("figure"))
      figure.classList.toggle("shown", figure.dataset.frame === frame);
    output.textContent = range.value;
  };
  form.addEventListener("input", show);
  slider.classList.add("live");
  show();
})();
"""
