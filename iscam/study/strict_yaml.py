"""Strict YAML: every scalar has exactly one interpretation, and a small file cannot expand to a huge value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from iscam.errors import InputError

MAX_BYTES = 1_000_000
#: Maximum number of values and keys of a document after aliases are expanded. The longest study in this repository has
#: 200.
MAX_NODES = 10_000
MAX_DEPTH = 50

#: Patterns of plain scalars that are not text, as in YAML 1.2. `no`, `010`, `1:30`, `1_000` and `2020-01-01` are text.
SCALARS = {
    "tag:yaml.org,2002:null": re.compile(r"~|null|Null|NULL|"),
    "tag:yaml.org,2002:bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"),
}
TEXT = "tag:yaml.org,2002:str"
MERGE = "tag:yaml.org,2002:merge"
SEQUENCE = "tag:yaml.org,2002:seq"
MAPPING = "tag:yaml.org,2002:map"


def read_yaml(file: str | Path, what: str) -> Any:
    """Read a YAML file of dicts, lists, text, numbers, booleans and null.

    - Only `true` and `false` are booleans, only decimal digits are integers, and dates are text.
    - Keys are text. A key that appears twice is an error. `<<` merges mappings.
    - A file has at most 1 MB, 50 levels, and 10,000 values after aliases are expanded.

    `what` describes the file in messages, for example "study".

    Raises InputError if the file cannot be read or breaks a rule.
    """
    try:
        return parse_yaml(read_text(Path(file)))
    except (InputError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"cannot read the {what} {shortened(str(file), 300)}: {reason}") from error


def read_text(path: Path) -> str:
    """Read the UTF-8 text of a regular file of at most 1 MB.

    Raises InputError for any other file.
    """
    if not path.exists():
        raise InputError("no such file")
    if not path.is_file():
        raise InputError("not a file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES:,} bytes")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text") from error


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text. The rules and errors are those of `read_yaml`.

    >>> parse_yaml("[1, 2.5, true, no, 010]")
    [1, 2.5, True, 'no', '010']
    """
    try:
        loader = Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise InputError(problem(error)) from error
    return None if node is None else Builder().value(node, ())


class Loader(yaml.SafeLoader):
    """PyYAML's loader for the node tree, with the scalars above and limits on depth and size."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  PyYAML fills it through add_implicit_resolver
    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        check_size(self.depth, self.nodes)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for tag, pattern in SCALARS.items():
    Loader.add_implicit_resolver(tag, re.compile(rf"(?:{pattern.pattern})$"), None)
Loader.add_implicit_resolver(MERGE, re.compile("<<$"), ["<"])


class Builder:
    """A converter from a node tree to Python values. A node that is repeated by aliases is counted each time."""

    def __init__(self) -> None:
        self.nodes = 0

    def value(self, node: Any, ancestors: tuple[Any, ...]) -> Any:
        self.nodes += 1
        check_size(len(ancestors), self.nodes)
        if any(node is ancestor for ancestor in ancestors):
            raise InputError(f"{place(node)}: an alias contains itself")
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
            return self.mapping(node, (*ancestors, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == SEQUENCE:
            return [self.value(item, (*ancestors, node)) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        raise InputError(f"{place(node)}: the tag {node.tag} is not supported")

    def mapping(self, node: Any, ancestors: tuple[Any, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        merges = 0
        for key_node, value_node in node.value:
            value = self.value(value_node, ancestors)
            if key_node.tag == MERGE:
                merges += 1
                merged = merge(value, key_node)
                continue
            key = self.value(key_node, ancestors)
            if not isinstance(key, str):
                raise InputError(f"{place(key_node)}: a key must be text, not {shortened(key)}; write it in quotes")
            if key in own:
                raise InputError(f"{place(key_node)}: the key {shortened(key)} appears twice")
            own[key] = value
        if merges > 1:
            raise InputError(f"{place(node)}: the key '<<' appears twice; write <<: [*first, *second]")
        return {**merged, **own}


def merge(value: Any, node: Any) -> dict[str, Any]:
    """Return the mapping of a merge key. If several mappings have the same key, the first mapping counts."""
    mappings = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in mappings):
        raise InputError(f"{place(node)}: '<<' can merge only mappings")
    return {key: item for each in reversed(mappings) for key, item in each.items()}


def scalar(node: Any) -> Any:
    """Convert a scalar node to None, bool, int, float or str."""
    text = node.value
    if node.tag in (TEXT, MERGE):
        return text
    if node.tag not in SCALARS:
        raise InputError(f"{place(node)}: the tag {node.tag} is not supported")
    kind = node.tag.rpartition(":")[2]
    if not SCALARS[node.tag].fullmatch(text):
        raise InputError(f"{place(node)}: {shortened(text)} is not a valid {kind}")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if len(text) > 100:
        raise InputError(f"{place(node)}: a number has {len(text)} characters; the limit is 100")
    return int(text) if kind == "int" else float(text)


def problem(error: yaml.YAMLError) -> str:
    """Return the line and the reason of a syntax error."""
    mark = getattr(error, "problem_mark", None)
    reason = " ".join(str(getattr(error, "problem", None) or error).split())
    return f"line {mark.line + 1}: {reason}" if mark else reason


def check_size(depth: int, nodes: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"the value is nested deeper than {MAX_DEPTH} levels")
    if nodes > MAX_NODES:
        raise InputError(f"there are more than {MAX_NODES:,} values (an alias counts each time it is used)")


def place(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


def shortened(value: object, length: int = 60) -> str:
    """Return a value as text for a message. Containers are described by type, because aliases may make them huge."""
    if isinstance(value, Mapping | list | tuple) and len(value) > 5:
        return f"a {type(value).__name__} of {len(value)} items"
    if isinstance(value, Mapping | list | tuple):
        items = ", ".join(
            type(each).__name__ if isinstance(each, Mapping | list | tuple) else shortened(each, 20) for each in value
        )
        return f"the {type(value).__name__} of {items}" if items else f"an empty {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
