"""Strict YAML: one interpretation per scalar, one-line errors, and no hangs."""

from __future__ import annotations

import pytest
import yaml

from helpers.errors import refused
from helpers.repository import ROOT
from iscam.study.strict_yaml import parse_yaml, read_yaml


def bomb(levels: int = 9) -> str:
    """Aliases that expand to 9^levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_repository_studies_read_as_by_pyyaml(file):
    assert read_yaml(file, "study") == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("text", ["no", "yes", "on", "Off", "010", "0x10", "1_000", "1:30", "2020-01-01", ".inf", "="])
def test_yaml_1_1_surprises_are_text(text):
    assert parse_yaml(text) == text


TYPED = {"true": True, "false": False, "12": 12, "-1": -1, "0": 0, "1.5": 1.5, "1e-3": 1e-3, ".5": 0.5}
TYPED |= {"null": None, "~": None, "": None, "'12'": "12", "a b": "a b", "[1, b]": [1, "b"]}


@pytest.mark.parametrize(("text", "value"), TYPED.items())
def test_scalar_has_its_type(text, value):
    found = parse_yaml(text)
    assert found == value and type(found) is type(value)


def test_merge_key_fills_in_what_is_not_given():
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\ntwo: {<<: [{a: 4}, *base]}"
    found = parse_yaml(text)
    assert found["own"] == {"a": 1, "b": 3}
    assert found["two"] == {"a": 4, "b": 2}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' appears twice"),
        ("<<: {a: 1}\n<<: {b: 1}", "'<<' appears twice"),
        ("<<: [1]", "'<<' can merge only mappings"),
        ("1: a", "must be text, not 1"),
        ("true: a", "must be text, not True"),
        ("? [a]\n: b", "must be text, not the list"),
        ("!!python/name:os.system", "tag"),
        ("!!timestamp 2020-01-01", "tag"),
        ("!!int '010'", "'010'"),
        ("a: &a {b: *a}", "an alias contains itself"),
        ("*a", "undefined alias"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("a: [b", "line 1"),
        ("a: \0", "#x0000"),
        ("9" * 5000, "5000 characters"),
        ("[" * 20_000, "deeper than 50"),
        ("\n".join(f"{' ' * depth}a:" for depth in range(100)), "deeper than 50"),
        (f"[{'1,' * 20_000}]", "more than 10,000"),
        (bomb(), "more than 10,000"),
    ],
    ids=lambda text: text[:20],
)
def test_bad_yaml_is_refused(text, word):
    with refused(word):
        parse_yaml(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_file_in_another_encoding_is_refused(tmp_path, encoding):
    file = tmp_path / "study.yaml"
    file.write_bytes("methods: {é: {}}".encode(encoding))
    with refused("study.yaml"):
        read_yaml(file, "study")


def test_file_with_byte_order_mark_is_read(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("a: é", encoding="utf-8-sig")
    assert read_yaml(file, "study") == {"a": "é"}


@pytest.mark.parametrize("name", ["nowhere.yaml", "", "nul\0.yaml", "x" * 5000])
def test_path_that_is_no_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with refused("cannot read the study"):
        read_yaml(name, "study")


def test_large_file_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("#" * 1_100_000)
    with refused("larger than"):
        read_yaml(file, "study")
