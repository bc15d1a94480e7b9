"""ILSVRC's labels: the competition's table, the XML annotations, the list of classes, and the real images."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

import iscam
from helpers.errors import refused
from helpers.image_files import ANNOTATIONS, VAL, annotation, carried, competition
from helpers.images import array

# ----------------------------------------------------------------------------------------------------------- the table


def test_table_images_that_do_not_exist_are_skipped(tmp_path):
    folder = competition(tmp_path, dict.fromkeys("abcd", "n01 1 1 9 9"), {"b": (30, 30), "d": (30, 30)})
    with pytest.warns(UserWarning, match="images listed in .* that do not exist are skipped: 2"):
        dataset = iscam.load_images(folder)
    assert [item.name for item in dataset] == ["b.JPEG", "d.JPEG"]
    assert dataset.skipped == 2


def test_table_without_any_image_is_refused(tmp_path):
    with refused("no images"):
        iscam.load_images(competition(tmp_path, {"a": "n01 1 1 9 9"}, {}))


def test_table_keeps_the_boxes_of_the_first_objects_class(tmp_path):
    folder = competition(tmp_path, {"a": "n02 1 1 9 9 n01 2 2 9 9 n02 3 3 9 9"}, {"a": (30, 30)})
    entry = iscam.load_images(folder).entries[0]
    assert (entry.target, entry.boxes) == (1, [[1, 1, 9, 9], [3, 3, 9, 9]])


ROWS = {
    "three numbers": ("n01 1 1 9", "four numbers"),
    "six numbers": ("n01 1 1 9 9 7", "four numbers"),
    "ten numbers": ("n01 1 1 9 9 7 7 7 7 7", "7"),
    "not a number": ("n01 1 1 nine 9", "nine"),
    "nan": ("n01 nan 1 9 9", "finite"),
    "inf": ("n01 1 1 inf 9", "finite"),
    "overflow": ("n01 1 1 1e400 9", "finite"),
    "unknown class": ("n99 1 1 9 9", "n99"),
    "unknown second class": ("n01 1 1 9 9 n98 1 1 9 9", "n98"),
    "no text": ("", "wnid"),
    "blanks": ("   ", "wnid"),
    "commas": ("n01,1,1,9,9", "fields"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_table_malformed_row_is_refused_by_its_line(tmp_path, kind):
    text, word = ROWS[kind]
    folder = competition(tmp_path, {"a": "n01 1 1 9 9", "b": "n02 2 2 9 9"}, {"a": (30, 30)})
    table = folder / "LOC_val_solution.csv"
    table.write_text(table.read_text() + f"\nc,{text}\n")  # an empty line 4, the row in line 5
    with refused("LOC_val_solution.csv, line 5", word):
        iscam.load_images(folder)


def test_table_image_named_twice_is_refused(tmp_path):
    folder = competition(tmp_path, {"a": "n01 1 1 9 9"}, {"a": (30, 30)})
    table = folder / "LOC_val_solution.csv"
    table.write_text(table.read_text() + "a,n01 1 1 9 9\n")
    with refused("line 3", "image a is named twice"):
        iscam.load_images(folder)


def test_table_row_without_a_name_is_refused(tmp_path):
    with refused("line 2"):
        iscam.load_images(competition(tmp_path, {"": "n01 1 1 9 9"}, {"a": (30, 30)}))


CONTENTS = [b"", b"Image,Boxes\na,n01 1 1 9 9\n", b"\0\1\2", b"ImageId\na\n", b"ImageId,PredictionString\n\xff\xfe\n"]


@pytest.mark.parametrize("content", CONTENTS)
def test_table_of_other_content_is_refused(tmp_path, content):
    folder = competition(tmp_path, {}, {"a": (30, 30)})
    (folder / "LOC_val_solution.csv").write_bytes(content)
    with refused("LOC_val_solution.csv"):
        iscam.load_images(folder)


@pytest.mark.parametrize("box", ["40 1 50 9", "1 1 1 9", "9 1 3 9", "-9 1 0 9", "1 30 9 40"])
def test_table_box_outside_the_image_is_refused(tmp_path, box):
    folder = competition(tmp_path, {"a": f"n01 {box}"}, {"a": (30, 30)})
    with refused("a.JPEG", "30x30"):
        iscam.load_images(folder)[0]


# ----------------------------------------------------------------------------------------------------- the annotations


def test_annotations_boxes_are_scaled_to_the_stored_image(tmp_path):
    """Boxes drawn on 400x200 pixels of an image that is stored with 100x80."""
    folder = competition(tmp_path, {}, {"a": (100, 80), "b": (60, 60)})
    annotation(folder, "b", "n03", (60, 60), [[1, 2, 30, 40], [5, 5, 9, 9]])
    annotation(folder, "a", "n02", (400, 200), [[100, 40, 300, 180]])
    annotation(folder, "c", "n01", (60, 60), [[1, 2, 30, 40]])
    with pytest.warns(UserWarning, match="skipped: 1$"):
        dataset = iscam.load_images(folder)
    a, b = dataset
    assert (a.name, a.target, b.name, b.target, dataset.skipped) == ("a.JPEG", 1, "b.JPEG", 2, 1)
    assert_allclose(array(a.boxes), [carried(100, 80, [25, 16, 75, 72])], atol=1e-3)
    assert len(b.boxes) == 2


FILES = {
    "unclosed": "<annotation>",
    "empty": "",
    "no object": "<annotation><size><width>9</width><height>9</height></size></annotation>",
    "no box": "<a><object><name>n01</name></object></a>",
    "latin-1": b"<annotation>\xe9</annotation>",
}


@pytest.mark.parametrize("kind", FILES)
def test_annotation_of_other_content_is_refused(tmp_path, kind):
    file = annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n01", (30, 30), [[1, 1, 9, 9]])
    content = FILES[kind]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused("a.xml"):
        iscam.load_images(tmp_path)


@pytest.mark.parametrize("box", [[1, 1, "inf", 9], [1, 1, "nan", 9], [1, 1, "", 9]])
def test_annotation_box_that_is_not_finite_is_refused(tmp_path, box):
    annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n01", (30, 30), [box])
    with refused("a.xml"):
        iscam.load_images(tmp_path)


def test_annotation_of_an_empty_image_is_refused(tmp_path):
    annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n01", (0, 30), [[1, 1, 9, 9]])
    with refused("a.xml", "0x30"):
        iscam.load_images(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_annotation_that_is_no_file_is_refused(tmp_path, make):
    file = annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n01", (30, 30), [[1, 1, 9, 9]])
    make(file.with_name("b.xml"))
    with refused("b.xml"):
        iscam.load_images(tmp_path)


def test_annotation_of_an_unknown_class_is_refused(tmp_path):
    annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n77", (30, 30), [[1, 1, 9, 9]])
    with refused("n77"):
        iscam.load_images(tmp_path)


# --------------------------------------------------------------------------------------------------------- the classes


@pytest.fixture
def labelled(tmp_path) -> Path:
    return competition(tmp_path, {"a": "n03 1 1 9 9"}, {"a": (30, 30)})


@pytest.mark.parametrize(
    "text", ["n01 a\nn02 b\nn03 é\n", "\ufeffn01 a\nn02 b\nn03 c", "n01\r\nn02\r\nn03\r\n\r\n\r\n"]
)
def test_classes_are_numbered_by_their_lines(labelled, text):
    (labelled / "LOC_synset_mapping.txt").write_bytes(text.encode())
    assert iscam.load_images(labelled)[0].target == 2


CLASSES = {
    "blank line": (b"n01 a\n\nn02 b\nn03 c\n", "line 2 is blank"),
    "blank first line": (b"\nn01 a\nn02 b\nn03 c\n", "line 1 is blank"),
    "repeated line": (b"n01 a\nn02 b\nn01 a\nn03 c\n", "line 3 names the class n01 again"),
    "latin-1": (b"n01 t\xe9nch\nn02 b\nn03 c\n", "UTF-8"),
    "utf-16": ("n01 a\n".encode("utf-16"), "UTF-8"),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_of_a_malformed_list_are_refused(labelled, kind):
    content, word = CLASSES[kind]
    (labelled / "LOC_synset_mapping.txt").write_bytes(content)
    with refused("LOC_synset_mapping.txt", word):
        iscam.load_images(labelled)


def test_classes_without_a_list_are_refused(tmp_path):
    annotation(competition(tmp_path, {}, {"a": (30, 30)}), "a", "n01", (30, 30), [[1, 1, 9, 9]])
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    with refused("LOC_synset_mapping.txt", "missing"):
        iscam.load_images(tmp_path)


def test_classes_of_all_thousand_annotations_need_no_list(tmp_path):
    folder = competition(tmp_path, {}, {"7": (30, 30)})
    (folder / "LOC_synset_mapping.txt").unlink()
    for i in range(1000):
        annotation(folder, str(i), f"n{i:04}", (30, 30), [[1, 1, 9, 9]])
    assert (folder / ANNOTATIONS / "999.xml").exists()
    with pytest.warns(UserWarning, match="skipped: 999$"):
        assert iscam.load_images(folder)[0].target == 7


# ----------------------------------------------------------------------------------------------------- the real images

ILSVRC = os.environ.get("ISCAM_ILSVRC", "")
real = pytest.mark.skipif(not ILSVRC, reason="ISCAM_ILSVRC names no folder of ImageNet images")


@pytest.fixture(scope="module")
def ilsvrc():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # listed images that do not exist
        return iscam.load_images(ILSVRC)


@real
@pytest.mark.ilsvrc
def test_real_images_have_labels_and_boxes(ilsvrc):
    """Compare each image with its row of the table, with independent arithmetic."""
    rows = pd.read_csv(Path(ILSVRC) / "LOC_val_solution.csv").set_index("ImageId")["PredictionString"]
    wnids = [line.split()[0] for line in (Path(ILSVRC) / "LOC_synset_mapping.txt").read_text().splitlines()]
    assert len(ilsvrc) + ilsvrc.skipped == len(rows)
    for item in iscam.load_images(ILSVRC, count=40, seed=3):
        words = rows[item.name.removesuffix(".JPEG")].split()
        with Image.open(Path(ILSVRC) / VAL / item.name) as stored:
            width, height = stored.size
        assert item.target == wnids.index(words[0])
        assert item.image.shape == (3, 224, 224)
        assert -2.2 < float(item.image.min()) < float(item.image.max()) < 2.7
        expected = [carried(width, height, list(map(float, words[i + 1 : i + 5]))) for i in range(0, len(words), 5)]
        seen = [box for box in expected if box[2] > box[0] and box[3] > box[1]]
        assert_allclose(array(item.boxes), seen, atol=1e-2)
        assert float(iscam.energy(torch.ones(1, 224, 224), [item.boxes])) > 0


@real
@pytest.mark.ilsvrc
def test_real_images_can_be_explained(ilsvrc):
    net = iscam.load_model("squeezenet1_0", weights=None)
    images = torch.stack([ilsvrc[i].image for i in (0, 1)])
    maps = iscam.explain(net, images, method="grad_cam")
    assert maps.shape == (2, 224, 224)
    original, explained = iscam.confidence(net, images, iscam.explain(net, images, method="identity"))
    assert torch.equal(original, explained)


@pytest.mark.slow
@real
@pytest.mark.ilsvrc
def test_real_images_can_all_be_read(ilsvrc):
    assert all(item.image.isfinite().all() and len(item.boxes) for item in ilsvrc)
