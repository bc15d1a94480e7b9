"""Data sets: sources, counts, boxes and masks carried along, transforms, the three downloaded images."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torchvision import models
from torchvision import transforms as v1
from torchvision.transforms import v2

import iscam
from helpers.errors import refused
from helpers.image_files import VAL, carried, competition, gradient, unprivileged_folder, write
from helpers.images import array
from iscam.data import FIGURE_IMAGES, Entry, ImageDataset
from iscam.errors import DownloadError
from iscam.transforms import MEAN, STD

UNCHANGED = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def levels(item) -> np.ndarray:
    """An item's image as 0..255, (3, height, width)."""
    mean, std = (np.array(v)[:, None, None] for v in (MEAN, STD))
    return (array(item.image) * std + mean) * 255


# ------------------------------------------------------------------------------------------------------------- sources


def test_one_pixel_is_an_image(tmp_path):
    (item,) = iscam.load_images(write(tmp_path / "a.png", Image.new("RGB", (1, 1), (10, 20, 30))))
    assert_allclose(levels(item).mean((1, 2)), [10, 20, 30], atol=0.01)


def test_count_and_seed_choose_the_same_images_again(tmp_path):
    for i in range(12):
        write(tmp_path / f"{i:02}.png", gradient(8, 8))

    def names(**options):
        return [item.name for item in iscam.load_images(tmp_path, **options)]

    assert names() == sorted(names())
    assert len(names()) == len(names(count=50)) == len(names(count=10**30)) == 12
    assert names(count=5) == names(count=5, seed=0) == sorted(names(count=5))
    assert len(set(names(count=5))) == 5
    assert any(names(count=5, seed=s) != names(count=5) for s in (1, 2))
    dataset = iscam.load_images(tmp_path)
    assert [item.name for item in dataset[2:4]] == ["02.png", "03.png"]
    assert dataset[-1].name == "11.png"


def test_menagerie_draws_only_what_is_asked_for():
    dataset = iscam.load_images("menagerie", count=1_000_000)
    assert len(dataset) == 1_000_000
    assert dataset[-1].name.endswith("-999999")
    assert [item.name for item in dataset[20:22]] == [dataset[20].name, dataset[21].name]
    assert dataset[5].name == iscam.load_images("menagerie", count=6)[5].name
    with pytest.raises(IndexError):
        dataset[1_000_000]


def test_menagerie_shows_each_species_once_in_a_group():
    n = len(iscam.menagerie.SPECIES)
    targets = [entry.target for entry in iscam.load_images("menagerie", count=3 * n, seed=3).entries]
    assert [sorted(targets[i : i + n]) for i in (0, n, 2 * n)] == [list(range(n))] * 3


def test_menagerie_has_a_thousand_drawings_by_default():
    assert len(iscam.load_images("menagerie")) == 1000


@pytest.mark.parametrize("count", [1_000_001, 10**9, 99999999999999999999999])
def test_menagerie_too_many_drawings_are_refused(count):
    with refused("count", "at most 1,000,000", str(count)):
        iscam.load_images("menagerie", count=count)


def test_dataset_can_be_sent_to_another_process(tmp_path):
    for source in ("menagerie", write(tmp_path / "a.png", gradient())):
        dataset = iscam.load_images(source, count=1)
        assert torch.equal(pickle.loads(pickle.dumps(dataset))[0].image, dataset[0].image)


@pytest.mark.parametrize("source", ["nowhere", "empty", "a\0b", "pipe"])
def test_source_without_images_is_refused(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with refused("no images"):
        iscam.load_images(source)


@pytest.mark.parametrize("source", ["", None, 3, ["a.png"]])
def test_source_that_is_no_path_is_refused(source):
    with refused("source must be a name or a path"):
        iscam.load_images(source)


def test_source_with_a_long_name_is_refused():
    with refused("name too long"):
        iscam.load_images("a" * 5000)


@pytest.mark.parametrize("inside", ["", "folder", "a.png"])
def test_source_without_permission_is_refused(inside):
    with unprivileged_folder() as folder:
        locked = folder / "locked"
        (locked / "folder").mkdir(parents=True)
        write(locked / "a.png", gradient())
        locked.chmod(0)
        with refused(str(locked), "Permission denied"):
            iscam.load_images(locked / inside)


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"count": -1}, {"count": 1.5}, {"count": "3"}, {"seed": -1}, {"seed": 0.5}]
)
def test_bad_count_or_seed_is_refused(tmp_path, options):
    write(tmp_path / "a.png", gradient())
    with refused(next(iter(options))):
        iscam.load_images(tmp_path, **options)


# ----------------------------------------------------------------------------------------------------- boxes and masks

BOXES = [
    (500, 375, [100, 50, 400, 300]),
    (375, 500, [3, 7, 371, 499]),
    (224, 224, [0, 0, 224, 224]),
    (90, 60, [10, 5, 80, 55]),
]


@pytest.mark.parametrize(("width", "height", "box"), BOXES)
def test_boxes_follow_resize_and_crop(tmp_path, width, height, box):
    text = " ".join(map(str, box))
    (item,) = iscam.load_images(competition(tmp_path, {"a": f"n02 {text} "}, {"a": (width, height)}))
    assert (item.name, item.target, item.mask) == ("a.JPEG", 1, None)
    assert_allclose(array(item.boxes), [carried(width, height, box)], atol=1e-3)


def test_boxes_enclose_the_object_in_the_transformed_image(tmp_path):
    """A white rectangle in a wide black image."""
    image = np.zeros((100, 180, 3), np.uint8)
    image[20:70, 60:120] = 255
    folder = competition(tmp_path, {"a": "n01 60 20 120 70"}, {})
    write(folder / VAL / "a.JPEG", Image.fromarray(image), quality=100, subsampling=0)
    (item,) = iscam.load_images(folder)
    rows, columns = np.nonzero(levels(item)[0] > 127)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert_allclose(array(item.boxes[0]), edges, atol=1.01)


def test_boxes_outside_the_crop_are_dropped_and_others_cut(tmp_path):
    row = "n02 0 10 20 50 n02 10 10 150 50 n03 60 10 90 40 n02 190 0 200 90"
    (item,) = iscam.load_images(competition(tmp_path, {"a": row}, {"a": (200, 100)}))
    assert item.target == 1
    assert_allclose(array(item.boxes), [carried(200, 100, [10, 10, 150, 50])], atol=1e-3)
    assert item.boxes[0, 0] == 0


THIN = {"1.6 2 2.4 9": 0, "1.6 2 2.6 9": 1, "2 1.5 9 1.6": 1, "2 1.51 9 1.6": 0, "3.4 3.4 3.5 3.5": 0, "3 3 4 4": 1}


@pytest.mark.parametrize("box", THIN)
def test_boxes_without_a_pixel_centre_are_dropped(tmp_path, box):
    folder = competition(tmp_path, {"a": f"n02 {box}"}, {"a": (30, 30)})
    (item,) = iscam.load_images(folder, transform=UNCHANGED)
    assert len(item.boxes) == THIN[box]
    energy = float(iscam.energy(torch.ones(1, 30, 30), [item.boxes]))
    assert energy > 0 if THIN[box] else np.isnan(energy)


def test_mask_of_a_drawing_follows_resize_and_crop():
    small = v2.Compose([v2.CenterCrop(112), v2.Resize(56), v2.RandomHorizontalFlip(1.0), *UNCHANGED.transforms])
    dataset = iscam.load_images("menagerie", count=3)
    for item, moved in zip(dataset, iscam.load_images("menagerie", count=3, transform=small), strict=True):
        assert item.mask.dtype == moved.mask.dtype == torch.bool
        assert np.array_equal(item.mask, item.drawing.mask)
        assert np.array_equal(moved.mask, item.drawing.mask[56:168, 56:168][::2, ::2][:, ::-1])


def test_mask_of_an_entry_follows_the_image(tmp_path):
    """A mask that is true where the image is white."""
    white = np.zeros((100, 180), bool)
    white[20:70, 60:120] = True
    image = Image.fromarray(np.repeat(np.uint8(255 * white)[..., None], 3, 2))
    entry = Entry("a", lambda: image, read_mask=lambda: white)
    (item,) = ImageDataset([entry], iscam.load_model("menagerie/resnet", weights=None).transform)
    assert item.mask.shape == (224, 224)
    assert float((item.mask == torch.as_tensor(levels(item)[0] > 127)).float().mean()) > 0.99


def test_mask_of_another_size_is_refused():
    entry = Entry("a", gradient, read_mask=lambda: np.ones((40, 30), bool))
    with refused("a: the mask (40, 30)", "(30, 40)"):
        ImageDataset([entry], UNCHANGED)[0]


# ---------------------------------------------------------------------------------------------------------- transforms


def test_transform_moves_image_and_boxes_together(tmp_path):
    folder = competition(tmp_path, {"a": "n02 10 20 30 40"}, {"a": (80, 60)})
    flip = v2.Compose([v2.RandomHorizontalFlip(1.0), UNCHANGED])
    (item,) = iscam.load_images(folder, transform=flip)
    assert item.boxes.tolist() == [[50, 20, 70, 40]]
    assert item.image.shape == (3, 60, 80)


FUNCTIONS = {
    "function": lambda image: torch.zeros(3, *image.size),
    "v2.Lambda": v2.Compose([UNCHANGED, v2.Lambda(lambda image: image.mT)]),
    "function in v2.Compose": v2.Compose([UNCHANGED, lambda image: image.mT]),
    "v1.Lambda": v1.Compose([v1.ToTensor(), v1.Lambda(lambda image: image.mT)]),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_transform_by_a_function_leaves_no_boxes(tmp_path, kind):
    folder = competition(tmp_path, {"a": "n02 10 20 30 40"}, {"a": (80, 60)})
    (item,) = iscam.load_images(folder, transform=FUNCTIONS[kind])
    assert item.image.shape == (3, 80, 60)
    assert item.boxes.shape == (0, 4)
    (item,) = iscam.load_images("menagerie", count=1, transform=FUNCTIONS[kind])
    assert (item.mask, item.boxes.shape) == (None, (0, 4))


PRESETS = {
    "torchvision resnet50": lambda: models.ResNet50_Weights.DEFAULT.transforms(),
    "torchvision swin": lambda: models.Swin_T_Weights.DEFAULT.transforms(),
    "v1": lambda: v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
    "timm": lambda: pytest.importorskip("timm").data.create_transform(224, crop_pct=0.9),
}


@pytest.mark.parametrize("kind", PRESETS)
def test_transform_of_torchvision_or_timm_moves_boxes(tmp_path, kind):
    """A white rectangle in a wide black image."""
    transform = PRESETS[kind]()
    image = np.zeros((301, 520, 3), np.uint8)
    image[60:200, 200:300] = 255
    folder = competition(tmp_path, {"a": "n01 200 60 300 200"}, {})
    write(folder / VAL / "a.JPEG", Image.fromarray(image), quality=100, subsampling=0)
    (item,) = iscam.load_images(folder, transform=transform)
    with Image.open(folder / VAL / "a.JPEG") as stored:
        assert_allclose(array(item.image), array(transform(stored.convert("RGB"))), atol=2e-6)
    rows, columns = np.nonzero(array(item.image[0]) > 0)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert_allclose(array(item.boxes[0]), edges, atol=1.01)


def test_transform_that_is_no_function_is_refused(tmp_path):
    with refused("transform must be a callable"):
        iscam.load_images(write(tmp_path / "a.png", gradient()), transform=3)


BAD_RESULTS = {
    "v2 PIL": (v2.Compose([v2.Resize(8)]), "it returned Image"),
    "v1 PIL": (v1.Compose([v1.Resize(8)]), "it returned Image"),
    "PIL": (lambda image: image, "it returned Image"),
    "array": (np.asarray, "it returned ndarray"),
    "batch": (lambda image: torch.zeros(1, 3, 8, 8), "(1, 3, 8, 8)"),
    "error": (v2.Compose([v2.Normalize(MEAN, STD)]), "fails on a.png"),
    "own error": (lambda image: {}["x"], "fails on a.png: KeyError"),
}


@pytest.mark.parametrize("kind", BAD_RESULTS)
def test_transform_that_makes_no_tensor_is_refused(tmp_path, kind):
    transform, word = BAD_RESULTS[kind]
    dataset = iscam.load_images(write(tmp_path / "a.png", gradient()), transform=transform)
    with refused("transform", "a.png", word):
        dataset[0]


# ---------------------------------------------------------------------------------------- the three downloaded images


def put_figures(folder: Path, monkeypatch) -> None:
    """Fill a cache with other images in place of the three, and set their hashes."""
    monkeypatch.setenv("ISCAM_CACHE", str(folder))
    for i, (name, (target, _)) in enumerate(list(FIGURE_IMAGES.items())):
        file = write(folder / name, gradient(50 + i, 40))
        monkeypatch.setitem(FIGURE_IMAGES, name, (target, hashlib.sha256(file.read_bytes()).hexdigest()))


def test_figures_in_the_cache_need_no_network(tmp_path, monkeypatch):
    put_figures(tmp_path, monkeypatch)
    dataset = iscam.load_images("figures")
    assert [(item.name, item.target) for item in dataset] == [
        ("n02110806_basenji.JPEG", 253),
        ("n02492035_capuchin.JPEG", 378),
        ("n02091134_whippet.JPEG", 172),
    ]


def test_figures_of_another_hash_are_refused(tmp_path, monkeypatch):
    put_figures(tmp_path, monkeypatch)
    file = tmp_path / "n02492035_capuchin.JPEG"
    file.write_bytes(file.read_bytes() + b"\0")
    dataset = iscam.load_images("figures")
    assert dataset[0].target == 253
    with refused(str(file), "sha256", error=DownloadError):
        dataset[1]
    assert file.exists(), "a file that the user put there is not deleted"


def test_figures_without_network_name_the_missing_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path / "new"))
    file = tmp_path / "new" / "n02110806_basenji.JPEG"
    with refused(str(file), "ISCAM_CACHE", "https://", error=DownloadError):
        iscam.load_images("figures")[0]


def test_figures_are_downloaded_once(tmp_path, monkeypatch):
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
