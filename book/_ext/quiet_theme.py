"""Two repairs of the theme, each of which writes an error into the reader's console on every page."""

from typing import Any


def repair(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    context["default_mode"] = "auto"  # the theme's script does not know the empty mode that Jupyter Book leaves
    scripts = context["script_files"]  # live code is off, but its script is there, twice
    context["script_files"] = [script for script in scripts if "THEBE_JS_URL" not in str(script.attributes.get("body"))]


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", repair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
