"""Write the table of architectures into the page `own_model`, from the record of tests/test_architectures.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from iscam.reproduction.published import data_folder
from iscam.reproduction.styles import markdown_table

PAGE = Path(__file__).with_name("own_model.md")
START, END = "<!-- table, written by book/architectures.py -->\n", "<!-- end of table -->"
HEAD = ["library", "what you type", "layer found", "channels", "largest difference ($10^{-7}$)"]


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(text: str) -> str:
    """The page with the recorded table between its two markers."""
    rows = pd.read_csv(data_folder() / "results" / "architectures.csv")
    cells = [
        [row.library, f"`{row.code}`", f"`{row.layer}`", f"{row.channels} of {row.size}", f"{1e7 * row.difference:.0f}"]
        for row in rows.itertuples()
    ]
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{markdown_table(HEAD, cells)}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    main()
