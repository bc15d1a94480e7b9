"""Write the figure and the results of the README from the recorded runs."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import iscam
from iscam.plots import TITLES
from iscam.reproduction import figures, findings
from iscam.reproduction.tables import HEADINGS, markdown_table

ROOT = Path(__file__).resolve().parents[1]
README, HERO = ROOT / "README.md", ROOT / "book" / "hero.png"
START, END = "<!-- results, written by run.py readme -->\n", "<!-- end of results -->"
NETWORK, SEED, IMAGE = "menagerie/squeezenet", 0, 7  # the same as in the introduction


def main() -> None:
    plt.switch_backend("Agg")
    hero().savefig(HERO, dpi=62, pil_kwargs={"optimize": True})
    README.write_text(with_results(README.read_text(encoding="utf-8")), encoding="utf-8")


def hero() -> plt.Figure:
    """A drawing of the menagerie and the map of each method."""
    net = iscam.load_model(NETWORK)
    item = iscam.load_images("menagerie", IMAGE + 1, SEED)[IMAGE]
    maps = {method: iscam.explain(net, item.image[None], method=method)[0] for method in iscam.METHODS}
    return figures.hero(item.image, net.category(int(net(item.image[None]).argmax())), maps)


def with_results(text: str) -> str:
    """The README with the results of the recorded runs between its two markers."""
    before, _, rest = text.partition(START)
    sentences = "".join(f"- {sentence}\n" for sentence in findings.sentences())
    tables = "".join(f"\n{caption}:\n\n{markdown(rows)}" for caption, rows in findings.tables())
    return f"{before}{START}\n{sentences}{tables}\n{END}{rest.partition(END)[2]}"


def markdown(rows: pd.DataFrame) -> str:
    """A Markdown table with the titles of methods and the headings of metrics."""
    head = [str(HEADINGS.get(name, name)) for name in rows.columns]
    return markdown_table(head, rows.map(lambda cell: TITLES.get(cell, cell)).to_numpy().tolist()) + "\n"


if __name__ == "__main__":
    main()
