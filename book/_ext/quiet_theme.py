"""Repairs of the theme: errors in the reader's console, false names of buttons, charts that no key can reach."""

from pathlib import Path
from typing import Any

#: Buttons whose label for screen readers is not the text that is seen on them (without it that text is the label); a
#: list without items; charts, which scroll sideways on a phone and so must take the keyboard's focus.
REPAIRS = {
    'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"': (
        'search-button-field search-button__button pst-js-only"'
    ),
    '<summary aria-label="Toggle hidden content">': "<summary>",
    'data-mode="light" title="Light"': 'data-mode="light"',
    'data-mode="dark"  title="Dark"': 'data-mode="dark"',
    'data-mode="auto"  title="System Settings"': 'data-mode="auto"',
    '<div role="list" class="citation-list">': '<div class="citation-list">',  # what it holds are no list items
    'container">\n<img': 'container" tabindex="0">\n<img',
}


def repair(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    context["default_mode"] = "auto"  # the theme's script does not know the empty mode that Jupyter Book leaves
    scripts = context["script_files"]  # live code is off, but its script is there, twice
    context["script_files"] = [script for script in scripts if "THEBE_JS_URL" not in str(script.attributes.get("body"))]


def rewrite(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for found, better in REPAIRS.items():
            text = text.replace(found, better)
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", repair, priority=900)
    app.connect("build-finished", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
