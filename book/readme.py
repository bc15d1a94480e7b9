"""Write the figure and the findings of the README from the recorded runs."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

import iscam
from iscam.reproduction import figures
from iscam.reproduction.archive import median_drawing
from iscam.reproduction.headlines import headlines
from iscam.reproduction.published import PAPER_METHODS

ROOT = Path(__file__).resolve().parents[1]
README, HERO = ROOT / "README.md", ROOT / "book" / "hero.png"
START, END = "<!-- results, written by run.py readme -->\n", "<!-- end of results -->"
NETWORK = "menagerie/squeezenet"  # as in the introduction


def main() -> None:
    hero().savefig(HERO, dpi=62, pil_kwargs={"optimize": True})
    README.write_text(with_results(README.read_text(encoding="utf-8")), encoding="utf-8")


def hero() -> Figure:
    """The drawing on which IS-CAM's part correlation is the median, and the map of each method."""
    net = iscam.load_model(NETWORK)
    seed, index = median_drawing(NETWORK)
    item = iscam.load_images("menagerie", index + 1, seed)[index]
    maps = {method: iscam.explain(net, item.image[None], method=method)[0] for method in PAPER_METHODS}
    return figures.hero(item.image, net.category(int(net(item.image[None]).argmax())), maps)


def with_results(text: str) -> str:
    """The README with the findings of the recorded runs between its two markers."""
    before, _, rest = text.partition(START)
    lines = "".join(f"- {line}\n" for line in headlines())
    return f"{before}{START}\n{lines}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    main()
