"""Images of every kind, the layouts of data sets, boxes carried along, the cache."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torchvision.transforms import v2

import iscam
from helpers.images import array
from iscam.data import FIGURE_IMAGES, read_image
from iscam.model import MEAN, STD

VAL = Path("ILSVRC/Data/CLS-LOC/val")


def levels(item) -> np.ndarray:
    """An item's image as 0..255, (3, height, width)."""
    mean, std = (np.array(v)[:, None, None] for v in (MEAN, STD))
    return (array(item.image) * std + mean) * 255


def write(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x + 90], 2).round().astype(np.uint8))


# ----------------------------------------------------------------------------------------------- images of every kind

SHOWN = {
    "RGB png": ("a.png", lambda p: p, 0),
    "jpeg": ("a.jpg", lambda p: p, 12),
    "CMYK jpeg": ("a.jpeg", lambda p: p.convert("CMYK"), 12),
    "palette gif": ("a.gif", lambda p: p.quantize(255), 30),
    "palette png": ("a.png", lambda p: p.quantize(255), 30),
    "bmp": ("a.bmp", lambda p: p, 0),
    "webp": ("a.webp", lambda p: p, 25),
    "opaque RGBA": ("a.png", lambda p: p.convert("RGBA"), 0),
    "YCbCr tiff": ("a.tiff", lambda p: p.convert("YCbCr"), 4),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_images_that_keep_their_colours(tmp_path, kind):
    name, convert, tolerance = SHOWN[kind]
    file = write(tmp_path / name, convert(gradient()))
    image = read_image(file)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, float) - np.asarray(gradient(), float)).max() <= tolerance
    (item,) = iscam.load_images(file)
    assert item.image.shape == (3, 224, 224)
    assert item.image.dtype == torch.float32
    assert (item.name, item.target, tuple(item.boxes.shape)) == (name, None, (0, 4))


GREY = np.linspace(0, 1, 64).reshape(8, 8)
GREYS = {
    "8 bits": (np.uint8(GREY * 255), "png"),
    "1 bit": (GREY > 0.5, "png"),
    "16 bits": (np.uint16(GREY * 65535), "png"),
    "16 bits tiff": (np.uint16(GREY * 65535), "tiff"),
    "32 bits": (np.int32(GREY * 65535), "tiff"),
    "floats to 1": (np.float32(GREY), "tiff"),
    "floats to 255": (np.float32(GREY * 255), "tiff"),
}


@pytest.mark.parametrize("kind", GREYS)
def test_grey_images_of_every_depth(tmp_path, kind):
    values, suffix = GREYS[kind]
    image = read_image(write(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    expected = 255.0 * (GREY > 0.5) if kind == "1 bit" else 255 * GREY
    assert_allclose(np.asarray(image, float), np.repeat(expected[:, :, None], 3, 2), atol=1)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path):
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))
    assert np.asarray(read_image(write(tmp_path / "a.png", dark))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}
    assert np.asarray(read_image(write(tmp_path / "a.png", image, **options))).min() == 255


def test_one_pixel_is_an_image(tmp_path):
    (item,) = iscam.load_images(write(tmp_path / "a.png", Image.new("RGB", (1, 1), (10, 20, 30))))
    assert_allclose(levels(item).mean((1, 2)), [10, 20, 30], atol=0.01)


def test_the_cameras_note_is_followed_for_loose_images_alone(tmp_path):
    """Orientation 6: turned by a quarter. Data sets have boxes drawn on the stored image, which stays."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = write(tmp_path / "a.png", gradient(), exif=exif)
    assert read_image(file).size == (40, 30)
    assert read_image(file, upright=True).size == (30, 40)


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that says it is so large."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def broken(folder: Path, kind: str) -> Path:
    """An image file that cannot be shown."""
    file = folder / "broken.png"
    whole = write(folder / "whole.png", gradient(200, 200)).read_bytes()
    if kind == "float NaN":
        return write(folder / "broken.tiff", Image.fromarray(np.full((4, 4), np.nan, np.float32)))
    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"this is no image\nat all\n",
        "bomb": png_header(60_000, 60_000),
        "large": png_header(10_001, 10_001),
        "thread": png_header(1, 3_000),  # 224 x 672,000 once its short side is 224
    }
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(content[kind])
    return file


BROKEN = ["truncated", "empty", "text", "bomb", "large", "thread", "folder", "missing", "float NaN"]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_images_are_refused_in_one_line(tmp_path, kind):
    file = broken(tmp_path, kind)
    with pytest.raises(iscam.InputError) as caught:
        read_image(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind in ("bomb", "large", "thread"):
        assert "pixels" in str(caught.value)


def test_a_folder_of_images_is_sorted_and_a_bad_one_waits_until_it_is_asked_for(tmp_path):
    for name in ("b.png", "a.JPG", "c.webp"):
        write(tmp_path / name, gradient())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.JPG").write_bytes(b"what macOS leaves beside an image on other disks")
    (tmp_path / "b.png").write_bytes(b"no image either")
    dataset = iscam.load_images(tmp_path)
    assert len(dataset) == 3
    assert [dataset[0].name, dataset[2].name] == ["a.JPG", "c.webp"]
    with pytest.raises(iscam.InputError, match=r"b\.png"):
        dataset[1]


# -------------------------------------------------------------------------------------------------------- boxes carried


def carried(width: int, height: int, box: list[float]) -> list[float]:
    """Short side to 224 (the long one rounded down), a centre crop, the box cut to it."""
    short = min(width, height)
    size = int(224 * width / short), int(224 * height / short)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    x = [min(max(each * size[0] / width - left, 0), 224) for each in box[::2]]
    y = [min(max(each * size[1] / height - top, 0), 224) for each in box[1::2]]
    return [x[0], y[0], x[1], y[1]]


def competition(folder: Path, rows: dict[str, str], sizes: dict[str, tuple[int, int]]) -> Path:
    """A data set of the competition's layout: rows of the list, and the images that are there."""
    folder.mkdir(exist_ok=True)
    (folder / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\nn03 great white shark\n")
    lines = [f"{name},{objects}" for name, objects in rows.items()]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines, ""]))
    for name, size in sizes.items():
        write(folder / VAL / f"{name}.JPEG", gradient(*size))
    return folder


BOXES = [
    (500, 375, [100, 50, 400, 300]),
    (375, 500, [3, 7, 371, 499]),
    (224, 224, [0, 0, 224, 224]),
    (90, 60, [10, 5, 80, 55]),
]


@pytest.mark.parametrize(("width", "height", "box"), BOXES)
def test_boxes_go_through_resize_and_crop(tmp_path, width, height, box):
    text = " ".join(map(str, box))
    folder = competition(tmp_path, {"a": f"n02 {text} "}, {"a": (width, height)})
    (item,) = iscam.load_images(folder)
    assert (item.name, item.target) == ("a.JPEG", 1)
    assert_allclose(array(item.boxes), [carried(width, height, box)], atol=1e-3)


def test_a_boxed_object_is_where_the_box_says(tmp_path):
    """A white rectangle in a wide black image, and the same in XML drawn on an image twice as large."""
    image = np.zeros((100, 180, 3), np.uint8)
    image[20:70, 60:120] = 255
    folder = competition(tmp_path, {"a": "n01 60 20 120 70"}, {})
    write(folder / VAL / "a.JPEG", Image.fromarray(image), quality=100, subsampling=0)
    (item,) = iscam.load_images(folder)
    rows, columns = np.nonzero(levels(item)[0] > 127)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert_allclose(array(item.boxes[0]), edges, atol=1.01)


def test_boxes_cropped_away_are_gone_and_the_others_cut(tmp_path):
    folder = competition(
        tmp_path, {"a": "n02 0 10 20 50 n02 10 10 150 50 n03 60 10 90 40 n02 190 0 200 90"}, {"a": (200, 100)}
    )
    (item,) = iscam.load_images(folder)
    assert item.target == 1
    assert_allclose(array(item.boxes), [carried(200, 100, [10, 10, 150, 50])], atol=1e-3)
    assert item.boxes[0, 0] == 0


def test_other_transforms(tmp_path):
    folder = competition(tmp_path, {"a": "n02 10 20 30 40"}, {"a": (80, 60)})
    flip = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    (item,) = iscam.load_images(folder, transform=flip)
    assert item.boxes.tolist() == [[50, 20, 70, 40]]
    assert item.image.shape == (3, 60, 80)
    (item,) = iscam.load_images(folder, transform=lambda image: torch.zeros(3, *image.size))
    assert item.image.shape == (3, 80, 60)
    assert item.boxes.shape == (0, 4)


# -------------------------------------------------------------------------------------------------- the layouts on disk


def test_rows_without_an_image_are_skipped_and_counted(tmp_path):
    rows = dict.fromkeys("abcd", "n01 1 1 9 9")
    folder = competition(tmp_path, rows, {"b": (30, 30), "d": (30, 30)})
    with pytest.warns(UserWarning, match="2 images listed"):
        dataset = iscam.load_images(folder)
    assert [item.name for item in dataset] == ["b.JPEG", "d.JPEG"]
    assert dataset.skipped == 2


MALFORMED = {
    "a number is missing": "n01 1 1 9",
    "not a number": "n01 1 1 nine 9",
    "unknown class": "n99 1 1 9 9",
    "nothing": "",
    "blanks": "   ",
    "commas": "n01,1,1,9,9",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_rows_are_named_by_their_line(tmp_path, kind):
    folder = competition(tmp_path, {"a": "n01 1 1 9 9", "b": "n02 2 2 9 9"}, {"a": (30, 30)})
    table = folder / "LOC_val_solution.csv"
    table.write_text(table.read_text() + f"\nc,{MALFORMED[kind]}\n")  # an empty line 4, the row in line 5
    with pytest.raises(iscam.InputError, match=r"LOC_val_solution\.csv, line 5") as caught:
        iscam.load_images(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "Image,Boxes\na,n01 1 1 9 9\n", "\0\1\2", "ImageId\na\n"])
def test_lists_that_are_none(tmp_path, content):
    folder = competition(tmp_path, {}, {"a": (30, 30)})
    (folder / "LOC_val_solution.csv").write_text(content)
    with pytest.raises(iscam.InputError, match=r"LOC_val_solution\.csv"):
        iscam.load_images(folder)


def test_a_list_that_is_not_text(tmp_path):
    folder = competition(tmp_path, {}, {"a": (30, 30)})
    (folder / "LOC_val_solution.csv").write_bytes(b"ImageId,PredictionString\n\xff\xfe\xfa")
    with pytest.raises(iscam.InputError, match=r"LOC_val_solution\.csv"):
        iscam.load_images(folder)


def test_a_row_without_a_name(tmp_path):
    folder = competition(tmp_path, {"": "n01 1 1 9 9"}, {"a": (30, 30)})
    with pytest.raises(iscam.InputError, match="line 2"):
        iscam.load_images(folder)


@pytest.mark.parametrize("box", ["40 1 50 9", "1 1 1 9", "9 1 3 9", "-9 1 0 9", "1 30 9 40"])
def test_a_box_outside_the_image(tmp_path, box):
    folder = competition(tmp_path, {"a": f"n01 {box}"}, {"a": (30, 30)})
    with pytest.raises(iscam.InputError, match=r"a\.JPEG.*30x30"):
        iscam.load_images(folder)[0]


def xml(folder: Path, name: str, wnid: str, size: tuple[int, int], boxes: list[list[float]]) -> None:
    objects = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    file = folder / "ILSVRC/Annotations/CLS-LOC/val" / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )


def test_xml_annotations(tmp_path):
    """Boxes drawn on 400x200 pixels of an image stored with 100x80."""
    folder = competition(tmp_path, {}, {"a": (100, 80), "b": (60, 60)})
    (folder / "LOC_val_solution.csv").unlink()
    xml(folder, "b", "n03", (60, 60), [[1, 2, 30, 40], [5, 5, 9, 9]])
    xml(folder, "a", "n02", (400, 200), [[100, 40, 300, 180]])
    xml(folder, "c", "n01", (60, 60), [[1, 2, 30, 40]])
    with pytest.warns(UserWarning, match="1 images listed"):
        dataset = iscam.load_images(folder)
    a, b = dataset
    assert (a.name, a.target, b.name, b.target, dataset.skipped) == ("a.JPEG", 1, "b.JPEG", 2, 1)
    assert_allclose(array(a.boxes), [carried(100, 80, [25, 16, 75, 72])], atol=1e-3)
    assert len(b.boxes) == 2


@pytest.mark.parametrize(
    "content", ["<annotation>", "", "<annotation></annotation>", "zero", "<a><object><name>n01</name></object></a>"]
)
def test_malformed_annotations_are_named(tmp_path, content):
    folder = competition(tmp_path, {}, {"a": (30, 30)})
    (folder / "LOC_val_solution.csv").unlink()
    xml(folder, "a", "n01", (0, 0), [[1, 1, 9, 9]])
    file = folder / "ILSVRC/Annotations/CLS-LOC/val/a.xml"
    if content != "zero":
        file.write_text(content)
    with pytest.raises(iscam.InputError, match=r"a\.xml") as caught:
        iscam.load_images(folder)
    assert "\n" not in str(caught.value)


def test_annotations_need_the_order_of_the_classes(tmp_path):
    folder = competition(tmp_path, {}, {"a": (30, 30)})
    (folder / "LOC_val_solution.csv").unlink()
    xml(folder, "a", "n77", (30, 30), [[1, 1, 9, 9]])
    with pytest.raises(iscam.InputError, match="n77"):
        iscam.load_images(folder)
    (folder / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(iscam.InputError, match=r"LOC_synset_mapping\.txt"):
        iscam.load_images(folder)


def test_count_and_seed_choose_the_same_images_again(tmp_path):
    for i in range(12):
        write(tmp_path / f"{i:02}.png", gradient(8, 8))

    def names(**options):
        return [item.name for item in iscam.load_images(tmp_path, **options)]

    assert names() == sorted(names())
    assert len(names()) == len(names(count=50)) == 12
    assert names(count=5) == names(count=5, seed=0) == sorted(names(count=5))
    assert len(set(names(count=5))) == 5
    assert any(names(count=5, seed=s) != names(count=5) for s in (1, 2))
    dataset = iscam.load_images(tmp_path)
    assert [item.name for item in dataset[2:4]] == ["02.png", "03.png"]
    assert dataset[-1].name == "11.png"


@pytest.mark.parametrize("source", ["nowhere", "", "empty"])
def test_a_source_without_images(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(iscam.InputError, match="no images"):
        iscam.load_images(source)


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"count": -1}, {"count": 1.5}, {"count": "3"}, {"seed": -1}, {"seed": 0.5}]
)
def test_bad_counts_and_seeds(tmp_path, options):
    write(tmp_path / "a.png", gradient())
    with pytest.raises(iscam.InputError, match=next(iter(options))):
        iscam.load_images(tmp_path, **options)


# ------------------------------------------------------------------------------------------------------------ the cache


def put_figures(folder: Path, monkeypatch) -> None:
    """Stand-ins for the three figure images, in a cache, with their hashes in the list."""
    monkeypatch.setenv("ISCAM_CACHE", str(folder))
    for i, (name, (target, _)) in enumerate(list(FIGURE_IMAGES.items())):
        file = write(folder / name, gradient(50 + i, 40))
        monkeypatch.setitem(FIGURE_IMAGES, name, (target, hashlib.sha256(file.read_bytes()).hexdigest()))


def test_figure_images_in_the_cache_need_no_network(tmp_path, monkeypatch):
    put_figures(tmp_path, monkeypatch)
    dataset = iscam.load_images("figures")
    assert [(item.name, item.target) for item in dataset] == [
        ("n02110806_basenji.JPEG", 253),
        ("n02492035_capuchin.JPEG", 378),
        ("n02091134_whippet.JPEG", 172),
    ]


def test_a_cached_file_of_another_hash_is_refused(tmp_path, monkeypatch):
    put_figures(tmp_path, monkeypatch)
    file = tmp_path / "n02492035_capuchin.JPEG"
    file.write_bytes(file.read_bytes() + b"\0")
    dataset = iscam.load_images("figures")
    assert dataset[0].target == 253
    with pytest.raises(iscam.InputError, match="sha256") as caught:
        dataset[1]
    assert str(file) in str(caught.value)
    assert file.exists(), "what is somebody's stays"


def test_no_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path / "new"))
    with pytest.raises(iscam.InputError) as caught:
        iscam.load_images("figures")[0]
    message = str(caught.value)
    assert str(tmp_path / "new" / "n02110806_basenji.JPEG") in message
    assert "ISCAM_CACHE" in message
    assert "https://" in message
    assert "\n" not in message
    with pytest.raises(iscam.InputError, match=r"squeezenet1_0-.*\.pth"):
        iscam.load_model("squeezenet1_0")


def test_a_download_is_checked_and_kept(tmp_path, monkeypatch):
    put_figures(tmp_path, monkeypatch)
    cache, asked = tmp_path / "cache", []
    monkeypatch.setenv("ISCAM_CACHE", str(cache))

    def retrieve(url, known_hash, fname, path, **kwargs):
        asked.append(url)
        Path(path).mkdir(exist_ok=True)
        (Path(path) / fname).write_bytes((tmp_path / url.rsplit("/", 1)[-1]).read_bytes())

    monkeypatch.setattr("pooch.retrieve", retrieve)
    for _ in range(2):
        assert iscam.load_images("figures")[2].target == 172
    assert len(asked) == 1
    assert [file.name for file in cache.iterdir()] == ["n02091134_whippet.JPEG"]


# ------------------------------------------------------------------------------------------------- real ILSVRC images

ILSVRC = os.environ.get("ISCAM_ILSVRC")
real = pytest.mark.skipif(not ILSVRC, reason="ISCAM_ILSVRC names no folder of ImageNet images")


@pytest.fixture(scope="module")
def ilsvrc():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows without an image
        return iscam.load_images(ILSVRC)


@real
@pytest.mark.ilsvrc
def test_ilsvrc_images_have_labels_and_boxes(ilsvrc):
    """Each image against its row of the list, with our own arithmetic."""
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
def test_ilsvrc_images_can_be_explained(ilsvrc):
    net = iscam.load_model("squeezenet1_0", weights=None)
    images = torch.stack([ilsvrc[i].image for i in (0, 1)])
    maps = iscam.explain(net, images, method="grad_cam")
    assert maps.shape == (2, 224, 224)
    y, o = iscam.confidence(net, images, iscam.explain(net, images, method="identity"))
    assert torch.equal(y, o)


@pytest.mark.slow
@real
@pytest.mark.ilsvrc
def test_every_ilsvrc_image_can_be_read(ilsvrc):
    assert all(item.image.isfinite().all() and len(item.boxes) for item in ilsvrc)
