"""Write the README's figure and its results, from the recorded runs; nothing in them is typed by hand."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import iscam
from iscam.plots import TITLES
from iscam.reproduction import figures, findings
from iscam.reproduction.tables import HEADINGS

ROOT = Path(__file__).resolve().parents[1]
README, HERO = ROOT / "README.md", ROOT / "book" / "hero.png"
START, END = "<!-- results, written by run.py readme -->\n", "<!-- end of results -->"
NETWORK, SEED, IMAGE = "menagerie/squeezenet", 0, 7  # as the introduction


def main() -> None:
    plt.switch_backend("Agg")
    hero().savefig(HERO, dpi=62, pil_kwargs={"optimize": True})
    README.write_text(with_results(README.read_text(encoding="utf-8")), encoding="utf-8")


def hero() -> plt.Figure:
    """A drawing of the menagerie and its seven maps."""
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
    """A table in Markdown, methods and metrics by the names readers know."""
    names = [str(HEADINGS.get(name, name)) for name in rows.columns]
    lines = [names, ["---"] * len(names), *rows.map(lambda cell: TITLES.get(cell, cell)).to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
