"""The book and the README follow the recorded runs, the build notices what changed, and the check finds faults."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from iscam.reproduction.archive import recorded
from iscam.reproduction.findings import METRICS, TRUTH, sentences, tables
from iscam.reproduction.panels import Panel, slider
from iscam.reproduction.published import PAPER_METHODS, data_folder
from iscam.reproduction.tables import by_metric
from iscam.study.statistics import summary

nbformat = pytest.importorskip("nbformat")
papermill = pytest.importorskip("papermill")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Pages whose tables of recorded values are not means with intervals: page -> a pattern of their cells.
OTHERS = {"sanity_checks": r"\(everything\)", "speed": r"benchmark_table\(|worst"}

#: Pages that show recorded values as means with intervals.
QUOTING = [
    file
    for file in NOTEBOOKS
    if file.stem not in OTHERS and re.search(r"recorded\(|recorded_audit|table_page\(|findings", file.read_text())
]
CELL = re.compile(r"-?\d+\.\d\d \(-?\d+\.\d\d to -?\d+\.\d\d\)")


def script(name: str) -> ModuleType:
    """A program in the folder `book`, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book")  # as Python does for a program
        spec.loader.exec_module(module)
    return module


def frame(models: list[str], metrics: list[str], images: int = 4) -> pd.DataFrame:
    """A table like that of a study, with meaningless values."""
    methods = ["score_cam", "is_cam", "identity", "random", "oracle"]
    keys = [(m, f"{n}", k, v) for m in models for n in range(images) for k in methods for v in metrics]
    rows = pd.DataFrame(keys, columns=["model", "image", "method", "metric"])
    return rows.assign(target=0, value=[(i * 37 % 101) / 101 for i in range(len(rows))], error="")


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder with every recorded value changed."""
    folder = tmp_path / "data"
    shutil.copytree(data_folder(), folder)
    for file in (folder / "results").glob("*.parquet"):
        table = pd.read_parquet(file)
        measured = [name for name in table if name == "value" or name.endswith(" error")]
        table.assign(**{name: 0.9 * table[name] + 0.0123 for name in measured}).to_parquet(file)
    for file in (folder / "results").glob("benchmarks-*.json"):
        run = json.loads(file.read_text())
        for i, line in enumerate(run["lines"], start=17):  # each with its own factor, so that ratios change
            line["seconds"] = [i / 10 * seconds for seconds in line["seconds"]]
        file.write_text(json.dumps(run))
    monkeypatch.setenv("ISCAM_DATA", str(folder))
    return folder


#: Pages whose tables mix live and recorded values.
MIXED = ("published_numbers",)

#: A pattern of the cells of a page's live part.
LIVE = r"explain\(|(part|pair)_importance\(|strongest_pairs|importances\[|explained|curve_bands|live|\{repeat\}"


def quoted(without: Sequence[str] = ()) -> set[str]:
    """Mean and interval of all recorded values, as pages show them, except those of 0 and 100 %, which are common."""
    found = set()
    tables = map(pd.read_parquet, (data_folder() / "results").glob("*.parquet"))
    for table in (table for table in tables if "value" in table):
        variants = [name for name in ("settings", "convention", "against", "layers") if name in table]
        for _, rows in table.groupby(variants) if variants else [((), table)]:
            means = summary(rows[~rows["metric"].isin(without)])
            found |= set(by_metric(means, means["metric"].unique()).astype(str).to_numpy().ravel())
    return {cell for cell in found if CELL.fullmatch(cell) and cell[:4] not in ("0.00", "100.")}


def executed(notebook: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    """The executed page, without its live part unless its tables mix live and recorded values."""
    for name, value in {"JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    source = nbformat.read(notebook, as_version=4)
    for cell in source.cells:
        if cell.cell_type == "code" and re.search(LIVE, cell.source) and notebook.stem not in MIXED:
            cell.source = ""
    nbformat.write(source, folder / "page.ipynb")
    return papermill.execute_notebook(
        str(folder / "page.ipynb"), None, parameters={"count": 1} if "count: int" in notebook.read_text() else {},
        kernel_name="python3", language="python", progress_bar=False, extra_arguments=["--log-level=ERROR"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(file, id=file.stem, marks=[] if file.stem in ("introduction", "confidence") else pytest.mark.slow)
        for file in QUOTING
    ],
)
def test_pages_follow_the_recorded_runs(
    notebook: Path, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = quoted()
    monkeypatch.delenv("ISCAM_DATA")
    before = quoted()
    gone = quoted(without=["average_increase"])  # Win % is a share of the same images: the two may coincide
    monkeypatch.setenv("ISCAM_DATA", str(changed))
    text = str(executed(notebook, tmp_path, monkeypatch)).replace("\\xa0", " ").replace("\xa0", " ")
    shown = set(CELL.findall(text))
    assert shown & (now - before), "no recorded value on the page"
    assert not shown & (gone - now), "a value that is no longer recorded"


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_tables_follow_the_recorded_runs(
    name: str, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> set[str]:
        page = executed(ROOT / "notebooks" / f"{name}.ipynb", tmp_path, monkeypatch)
        cells = [cell for cell in page.cells if re.search(OTHERS[name], cell.source)]
        found = re.findall(r"<tr>(.*?)</tr>", str([cell.get("outputs") for cell in cells]))
        return {re.sub(r"<.*?>|\\n", " ", row) for row in found if re.search(r"\d\.\d", row)}

    now = rows()
    monkeypatch.delenv("ISCAM_DATA")
    before = rows()
    assert len(now) == len(before) > 10
    assert not now & before, "a row that ignores the record"


def test_findings_follow_the_recorded_runs(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = sentences()
    monkeypatch.delenv("ISCAM_DATA")
    assert now[1] != sentences()[1]


def test_findings_use_every_run(changed: Path) -> None:
    for name, models in {"tables_menagerie": ["menagerie/resnet"], "tables_squeezenet": ["squeezenet1_0"]}.items():
        frame(models, [*METRICS, *TRUTH]).to_parquet(changed / "results" / f"{name}.parquet")
    said = sentences()
    assert len(said) == 5
    assert not [sentence for sentence in said if "nan" in sentence]
    assert tables()[-1][0].startswith("squeezenet1_0")


@pytest.mark.parametrize("name", ["tables_menagerie", "tables_squeezenet"])
def test_recorded_tables_use_default_options(name: str) -> None:
    methods = recorded(name)[1]["parameters"]["methods"]
    assert {"score_cam", "ss_cam", "is_cam"} < set(methods)
    papers = [options for name, options in methods.items() if name.split(" ")[0] in PAPER_METHODS]
    assert all(set(options) <= {"method", "seed"} for options in papers), "an option that saves passes"


def test_readme_is_up_to_date() -> None:
    readme = script("readme")
    text = readme.README.read_text(encoding="utf-8")
    assert readme.with_results(text) == text, "run: python3 run.py readme"
    assert readme.HERO.stat().st_size < 300_000


PANEL = Panel("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=", "title", "line")


def test_slider_is_complete_without_scripts() -> None:
    html = slider({("linear", 1): PANEL, ("linear", 2): PANEL}, ("linear", 2), printed=[1])
    assert html.count("<img") == html.count("<figcaption>") == 2
    assert 'data-frame="linear 1" class="printed"' in html
    assert "http" not in html


def test_check_finds_each_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = script("check")
    chromium = next(filter(None, map(shutil.which, check.BROWSERS)), None)
    if chromium is None:
        pytest.skip("needs Chromium")
    (tmp_path / "index.html").write_text("")
    (tmp_path / "page.html").write_text(
        """<html lang="en"><title>t</title><body><main><img src="missing.png"><div style="width: 3000px">wide</div>
        <a href="nowhere.html">a</a><a href="#nowhere">b</a><input type="range" aria-label="stuck">
        <img alt="far" src="https://example.org/far.png"><script>throw Error("broken")</script></main>"""
    )
    monkeypatch.setattr(check, "HTML", tmp_path)
    monkeypatch.setattr(check, "SEARCHES", ["Gauss"])
    found = " ".join(check.inspect(chromium, axe=""))
    for fault in (
        "wider than the screen", "without alternative text", "does not load", "link to nothing", "missing anchor",
        "slider does not follow the keyboard", "asks https://example.org", "script: broken",
        "search does not find Gauss",
    ):  # fmt: skip
        assert fault in found


# ------------------------------------------------------------------------------------------------ building the book


@pytest.fixture(scope="module")
def make() -> ModuleType:
    return script("make")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("count", "write NAME=VALUE"),
        ("=1", "write NAME=VALUE"),
        ("models=[a", "line 1"),
        ("data=!!python/name:os.system", "tag"),
        ("models=!!set {a}", "tag"),
        ("models={a: 1, a: 2}", "'a'"),
        ("models=" + 5000 * "[", "50 levels"),
    ],
    ids=range(7),
)
def test_set_with_a_wrong_value_exits_with_one_line(make: ModuleType, setting: str, problem: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(problem)) as caught:
        make.read_parameters(None, [setting])
    assert str(caught.value).startswith("--set ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "kind"),
    [("count=2020-01-01", "int"), ("count=true", "int"), ("models=vgg16", "list"), ("data=1", "str")],
)
def test_set_with_a_wrong_type_exits_with_one_line(make: ModuleType, setting: str, kind: str) -> None:
    with pytest.raises(SystemExit, match=rf"parameter '\w+' must be of type {kind}, such as .*; got "):
        make.by_notebook(make.read_parameters(None, [setting]))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"- count", "must map parameter names"),
        (b"count", "must map parameter names"),
        (b"1: 2", "key"),
        ("data: Stra\xdfe".encode("latin-1"), "not UTF-8 text"),
        (None, "no such file"),
    ],
    ids=["list", "word", "number", "latin-1", "missing"],
)
def test_parameters_file_that_is_wrong_exits_with_one_line(
    make: ModuleType, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "parameters.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=re.escape(problem)) as caught:
        make.read_parameters(file, [])
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_set_overrides_the_parameters_file(make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parameters.yaml").write_text("count: 8\ndata: images\nweights: {vgg16: vgg.pth, resnet18: none}\n")
    assert make.read_parameters(Path("parameters.yaml"), ["count=2", "models=[vgg16]"]) == {
        "count": 2,
        "data": str(tmp_path / "images"),
        "weights": {"vgg16": str(tmp_path / "vgg.pth"), "resnet18": "none"},
        "models": ["vgg16"],
    }
    (tmp_path / "empty.yaml").write_text("")
    assert make.read_parameters(tmp_path / "empty.yaml", []) == {}


def test_set_of_an_unknown_parameter_lists_the_valid_ones(make: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"unknown parameter 'counts'; valid parameters: .*count, "):
        make.by_notebook({"counts": 2})


@pytest.mark.parametrize("changed", ["images/a.png", "w.pth"])
def test_fingerprint_changes_with_the_files_a_notebook_reads(tmp_path: Path, changed: str) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/a.png", "w.pth"):
        (tmp_path / name).write_bytes(b"before")
    file = tmp_path / changed
    times = file.stat()
    parameters = {"data": str(tmp_path / "images"), "weights": {"vgg16": str(tmp_path / "w.pth")}}

    def fingerprint() -> str:
        return script("make").fingerprint(NOTEBOOKS[0], parameters)  # a separate build each time

    before = fingerprint()
    assert fingerprint() == before
    file.write_bytes(b"after_")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the file keeps its size and age
    assert fingerprint() != before


def test_theme_repair_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    quiet_theme = script("_ext/quiet_theme")
    (tmp_path / "a.html").write_text("".join(quiet_theme.REPAIRS))
    quiet_theme.repair([tmp_path / "a.html"])
    assert not any(found in (tmp_path / "a.html").read_text() for found in quiet_theme.REPAIRS)
    light = next(found for found in quiet_theme.REPAIRS if "light" in found)
    (tmp_path / "b.html").write_text("".join(found for found in quiet_theme.REPAIRS if found != light))
    with pytest.raises(Exception, match="match nothing") as error:
        quiet_theme.repair([tmp_path / "b.html"])
    assert light in str(error.value) and "dark" not in str(error.value)
