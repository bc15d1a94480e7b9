"""Repair the theme's HTML: console errors, wrong labels of buttons, and charts that the keyboard cannot reach."""

from pathlib import Path
from typing import Any

from sphinx.errors import ExtensionError

#: HTML that the theme writes -> its repair. Buttons get the visible text as their label for screen readers. The list of
#: references loses the role "list", because it has no list items. Charts can receive the keyboard focus, because they
#: scroll sideways on a phone.
REPAIRS = {
    'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"': (
        'search-button-field search-button__button pst-js-only"'
    ),
    '<summary aria-label="Toggle hidden content">': "<summary>",
    'data-mode="light" title="Light"': 'data-mode="light"',
    'data-mode="dark"  title="Dark"': 'data-mode="dark"',
    'data-mode="auto"  title="System Settings"': 'data-mode="auto"',
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    'container">\n<img': 'container" tabindex="0">\n<img',
}


def prepare_page(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Set the theme's mode to one that the theme's script accepts. Remove the script for live code, which is off."""
    context["default_mode"] = "auto"  # Jupyter Book leaves it empty
    scripts = context["script_files"]
    context["script_files"] = [script for script in scripts if "THEBE_JS_URL" not in str(script.attributes.get("body"))]


def repair_pages(app: Any, error: Exception | None) -> None:
    """Apply every repair to every page."""
    if not error and app.builder.format == "html":
        repair(sorted(Path(app.outdir).rglob("*.html")))


def repair(pages: list[Path]) -> None:
    """Apply every repair to the given HTML files.

    Raises ExtensionError if a repair matches nothing, which means that the theme's HTML has changed.
    """
    unused = set(REPAIRS)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found, better in REPAIRS.items():
            if found in text:
                unused.discard(found)
                text = text.replace(found, better)
        page.write_text(text, encoding="utf-8")
    if unused:
        raise ExtensionError(f"the theme's HTML has changed; these repairs match nothing: {sorted(unused)}")


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", prepare_page, priority=900)
    app.connect("build-finished", repair_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
