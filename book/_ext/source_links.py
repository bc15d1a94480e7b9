"""Link each name on the package's page to the lines that define it in the public repository."""

import importlib
import inspect
from functools import reduce
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def setup(app: Any) -> dict[str, bool]:
    def address(domain: str, info: dict[str, str]) -> str | None:
        try:
            found = reduce(getattr, info["fullname"].split("."), importlib.import_module(info["module"]))
            file = Path(inspect.getsourcefile(found) or "").resolve().relative_to(ROOT)
            lines, first = inspect.getsourcelines(found)
        except (TypeError, ValueError, OSError):  # fields and dictionaries have no source lines
            return None
        theme = app.config.html_theme_options
        last = first + len(lines) - 1
        return f"{theme['repository_url']}/blob/{theme['repository_branch']}/{file.as_posix()}#L{first}-L{last}"

    app.config.linkcode_resolve = address
    app.setup_extension("sphinx.ext.linkcode")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
