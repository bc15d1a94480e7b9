"""Labels and boxes of ILSVRC, from the competition's table or the XML annotations."""

from __future__ import annotations

import csv
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iscam.errors import InputError
from iscam.image_files import check_regular_file
from iscam.validation import printable

IMAGES = Path("ILSVRC/Data/CLS-LOC/val")
ANNOTATIONS = Path("ILSVRC/Annotations/CLS-LOC/val")
TABLE = "LOC_val_solution.csv"
CLASSES = "LOC_synset_mapping.txt"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class LabelledFile:
    """An image file with its class and the boxes of that class's objects."""

    path: Path
    target: int
    boxes: Sequence[Sequence[float]]  # xmin, ymin, xmax, ymax of each object
    boxes_size: tuple[int, int] | None = None  # width and height that the boxes refer to; None for the image's size


def labelled_files(folder: Path) -> list[LabelledFile] | None:
    """Return the labelled files of a folder in ILSVRC's layout, or None if the folder has a different layout.

    The image files need not exist.
    """
    if (folder / TABLE).is_file():
        return read_table(folder)
    if (folder / ANNOTATIONS).is_dir():
        return read_annotations(folder)
    return None


def read_table(folder: Path) -> list[LabelledFile]:
    """Read `LOC_val_solution.csv`, a table with the columns `ImageId` and `PredictionString`.

    `PredictionString` holds `wnid xmin ymin xmax ymax` for each object.

    Raises InputError if the file is not such a table or names an image twice. The message contains the line number.
    """
    table = folder / TABLE
    classes = class_numbers(folder)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, ValueError, OSError) as error:
        raise InputError(f"cannot read {printable(table)}: {error}") from error
    if not {"ImageId", "PredictionString"} <= columns:
        raise InputError(f"cannot read {printable(table)}: the columns ImageId and PredictionString are required")
    files: dict[str, LabelledFile] = {}
    for line, row in rows:
        try:
            name = row["ImageId"]
            if not name or None in row:
                raise ValueError("the line must have as many fields as the first line")
            if name in files:
                raise ValueError(f"the image {name} is named twice")
            wnid, boxes = parse_objects(row["PredictionString"], classes)
        except (AttributeError, KeyError, ValueError) as error:
            raise InputError(
                f"{printable(table)}, line {line}: {error}; expected 'id,wnid xmin ymin xmax ymax ...'"
            ) from error
        files[name] = LabelledFile(folder / IMAGES / f"{name}.JPEG", classes[wnid], boxes)
    return list(files.values())


def parse_objects(text: str | None, classes: dict[str, int]) -> tuple[str, list[list[float]]]:
    """Parse the first object's wnid and the boxes of all objects with that wnid."""
    words = (text or "").split()
    if not words or len(words) % 5:
        raise ValueError("each object needs a wnid and four numbers")
    objects = [(words[i], finite_box(words[i + 1 : i + 5])) for i in range(0, len(words), 5)]
    for wnid, _ in objects:
        if wnid not in classes:
            raise ValueError(f"{CLASSES} does not list the class {wnid}")
    return objects[0][0], [box for wnid, box in objects if wnid == objects[0][0]]


def finite_box(words: Sequence[str]) -> list[float]:
    """Parse four finite numbers.

    Raises ValueError for any other text.
    """
    box = [float(word) for word in words]
    if not all(math.isfinite(number) for number in box):
        raise ValueError(f"a box needs finite numbers, not {' '.join(words)}")
    return box


def read_annotations(folder: Path) -> list[LabelledFile]:
    """Read ILSVRC's XML annotations, whose boxes refer to the annotated image's size.

    Raises InputError if a file is not such an annotation or if its class is unknown.
    """
    parsed = [(file, *parse_annotation(file)) for file in sorted((folder / ANNOTATIONS).glob("*.xml"))]
    classes = class_numbers(folder, {wnid for _, wnid, _, _ in parsed})
    files = []
    for file, wnid, boxes, size in parsed:
        if wnid not in classes:
            raise InputError(f"annotation {printable(file)} has the unknown class {wnid}")
        files.append(LabelledFile(folder / IMAGES / f"{file.stem}.JPEG", classes[wnid], boxes, size))
    return files


def parse_annotation(file: Path) -> tuple[str, list[list[float]], tuple[int, int]]:
    """Parse the first object's wnid, the boxes of all objects with that wnid, and the image's width and height."""
    try:
        check_regular_file(file)
        root = ElementTree.parse(file).getroot()
        objects = [
            (item.findtext("name", ""), finite_box([item.findtext(f"bndbox/{corner}", "") for corner in CORNERS]))
            for item in root.iter("object")
        ]
        size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
        if min(size) < 1:
            raise ValueError(f"the image has {size[0]}x{size[1]} pixels")
        if not objects:
            raise ValueError("the annotation has no object")
    except (ElementTree.ParseError, ValueError, OSError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"cannot read the annotation {printable(file)}: {problem}") from error
    wnid = objects[0][0]
    return wnid, [box for name, box in objects if name == wnid], size


def class_numbers(folder: Path, seen: set[str] | None = None) -> dict[str, int]:
    """Return the class number of each WordNet id.

    Line i of LOC_synset_mapping.txt names class i. If the file is missing and `seen` has 1,000 ids, they are numbered
    in sorted order.

    Raises InputError if the file is missing or not UTF-8 text, or if it has a blank or repeated line.
    """
    file = folder / CLASSES
    if not file.is_file():
        if len(seen or ()) == 1000:
            return {wnid: i for i, wnid in enumerate(sorted(seen or ()))}
        raise InputError(f"{printable(file)} is missing; it must list the classes in order, one 'wnid name' per line")
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {printable(file)} as UTF-8 text: {error}") from error
    classes: dict[str, int] = {}
    for number, line in enumerate(lines):
        wnid = next(iter(line.split()), "")
        if not wnid or wnid in classes:
            problem = f"names the class {wnid} again" if wnid else "is blank"
            raise InputError(f"{printable(file)}, line {number + 1} {problem}; line i must name class i")
        classes[wnid] = number
    return classes
