"""Image files of every format, depth and orientation, and files that are not images."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

import iscam
from helpers.errors import refused
from helpers.image_files import gradient, unprivileged_folder, write
from iscam.image_files import read_image

COLOUR = {
    "RGB png": ("a.png", lambda p: p, 0),
    "jpeg": ("a.jpg", lambda p: p, 12),
    "CMYK jpeg": ("a.jpeg", lambda p: p.convert("CMYK"), 12),
    "palette gif": ("a.gif", lambda p: p.quantize(255), 30),
    "palette png": ("a.png", lambda p: p.quantize(255), 30),
    "bmp": ("a.bmp", lambda p: p, 0),
    "webp": ("a.webp", lambda p: p, 25),
    "opaque RGBA": ("a.png", lambda p: p.convert("RGBA"), 0),
    "YCbCr tiff": ("a.tiff", lambda p: p.convert("YCbCr"), 4),
    "avif": ("a.avif", lambda p: p, 25),
    "jpeg 2000": ("a.jp2", lambda p: p, 8),
    "tga": ("a.tga", lambda p: p, 0),
    "ppm": ("a.ppm", lambda p: p, 0),
}


@pytest.mark.parametrize("kind", COLOUR)
def test_read_image_keeps_the_colours(tmp_path, kind):
    name, convert, tolerance = COLOUR[kind]
    file = write(tmp_path / name, convert(gradient()))
    image = read_image(file)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, float) - np.asarray(gradient(), float)).max() <= tolerance
    (item,) = iscam.load_images(tmp_path)
    assert item.image.shape == (3, 224, 224)
    assert item.image.dtype == torch.float32
    assert (item.name, item.target, tuple(item.boxes.shape), item.mask) == (name, None, (0, 4), None)


GREY = np.linspace(0, 1, 64).reshape(8, 8)
GREYS = {
    "8 bits": (np.uint8(GREY * 255), "png"),
    "1 bit": (GREY > 0.5, "png"),
    "16 bits": (np.uint16(GREY * 65535), "png"),
    "16 bits tiff": (np.uint16(GREY * 65535), "tiff"),
    "32 bits": (np.int32(GREY * 65535), "tiff"),
    "32 bits to 255": (np.int32(GREY * 255), "tiff"),
    "floats to 1": (np.float32(GREY), "tiff"),
    "floats to 1, rounded": (np.float32(GREY * (1 + 1e-7)), "tiff"),
    "floats to 255": (np.float32(GREY * 255), "tiff"),
    "floats to 65535": (np.float32(GREY * 65535), "tiff"),
}


@pytest.mark.parametrize("kind", GREYS)
def test_read_image_greys_of_every_depth(tmp_path, kind):
    values, suffix = GREYS[kind]
    image = read_image(write(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    expected = 255.0 * (GREY > 0.5) if kind == "1 bit" else 255 * GREY
    assert_allclose(np.asarray(image, float), np.repeat(expected[:, :, None], 3, 2), atol=1)


BEYOND = {
    "large int": (np.int32([[0, 70000]]), "70000"),
    "negative int": (np.int32([[-1, 200]]), "-1"),
    "large float": (np.float32([[0, 1e6]]), "1e+06"),
    "negative float": (np.float32([[-0.5, 1]]), "-0.5"),
    "nan": (np.float32([[0, np.nan]]), "NaN"),
    "infinite": (np.float32([[0, np.inf]]), "infinite"),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_read_image_values_out_of_range_are_refused(tmp_path, kind):
    values, word = BEYOND[kind]
    file = write(tmp_path / "a.tiff", Image.fromarray(values))
    with refused(str(file), word):
        read_image(file)


def test_read_image_of_16_dark_bits_stays_dark(tmp_path):
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))
    assert np.asarray(read_image(write(tmp_path / "a.png", dark))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_read_image_blends_transparency_with_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}
    assert np.asarray(read_image(write(tmp_path / "a.png", image, **options))).min() == 255


def test_read_image_applies_orientation_if_upright(tmp_path):
    """Orientation 6 is a quarter turn. The boxes of a data set refer to the stored image, so it is not turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = write(tmp_path / "a.png", gradient(), exif=exif)
    assert read_image(file).size == (40, 30)
    assert read_image(file, upright=True).size == (30, 40)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_read_image_animation_warns_and_gives_the_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = write(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=rf"a\.{suffix} has several frames; only the first is read"):
        image = read_image(file)
    assert_allclose(np.asarray(image)[0, 0], [255, 0, 0], atol=10)


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG of a given size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


BROKEN = {
    "truncated": (None, "truncated"),
    "empty": (b"", "none of the supported formats"),
    "text": (b"this is no image\nat all\n", "none of the supported formats"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "formats"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is not supported; convert it to JPEG or PNG"),
    "bomb": (png_header(60_000, 60_000), "pixels"),
    "large": (png_header(10_001, 10_001), "pixels"),
    "thread": (png_header(1, 3_000), "pixels"),  # 224 x 672,000 after its short side is resized to 224
}


@pytest.mark.parametrize("kind", BROKEN)
def test_read_image_broken_file_is_refused(tmp_path, kind):
    content, word = BROKEN[kind]
    file = write(tmp_path / "broken.png", gradient(200, 200))
    file.write_bytes(file.read_bytes()[:200] if content is None else content)
    with refused(str(file), word):
        read_image(file)


def test_read_image_missing_file_is_refused(tmp_path):
    with refused(str(tmp_path / "a.png"), "no such file"):
        read_image(tmp_path / "a.png")


def test_read_image_folder_is_refused(tmp_path):
    with refused(str(tmp_path), "it is a folder"):
        read_image(tmp_path)


def test_read_image_circular_link_is_refused(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    with refused("a.png", "Too many levels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["pipe.jpg", "pipe.heic"])
def test_read_image_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with refused(name, "not a regular file"):
        read_image(tmp_path / name)


def test_read_image_long_name_is_refused(tmp_path):
    with refused("name too long"):
        read_image(tmp_path / ("a" * 5000))


def test_read_image_name_with_a_line_break_is_one_line(tmp_path):
    file = tmp_path / "two\nlines.png"
    file.write_bytes(b"")
    with refused(r"two\nlines.png"):
        read_image(file)


def test_read_image_without_permission_is_refused():
    with unprivileged_folder() as folder:
        file = write(folder / "a.png", gradient())
        file.chmod(0)
        with refused(str(file), "Permission denied"):
            read_image(file)


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_folder_lists_supported_files_by_name(tmp_path):
    folder_of(tmp_path, "b.png", "a.JPG", "c.webp", "d.avif", "e.jp2", "f.tga", "notes.txt", "._a.JPG", "labels.csv")
    names = [entry.name for entry in iscam.load_images(tmp_path).entries]
    assert names == ["a.JPG", "b.png", "c.webp", "d.avif", "e.jp2", "f.tga"]


def test_folder_warns_of_formats_that_cannot_be_read(tmp_path):
    folder_of(tmp_path, "a.png", "b.HEIC", "c.svg", "notes.txt")
    with pytest.warns(UserWarning, match=r"skipped files in .* cannot be read \(2\): b\.HEIC, c\.svg$"):
        assert len(iscam.load_images(tmp_path)) == 1


def test_folder_of_unsupported_formats_is_refused(tmp_path):
    folder_of(tmp_path, *(f"{i}.heic" for i in range(7)))
    with refused("no readable images, but 7", "0.heic", "4.heic, ...", "cannot be read"):
        iscam.load_images(tmp_path)


def test_folder_refuses_a_bad_image_when_it_is_asked_for(tmp_path):
    for name in ("a.png", "c.png"):
        write(tmp_path / name, gradient())
    folder_of(tmp_path, "b.png")
    os.mkfifo(tmp_path / "d.jpg")
    dataset = iscam.load_images(tmp_path)
    assert [dataset[0].name, dataset[2].name] == ["a.png", "c.png"]
    for index, name in ((1, "b.png"), (3, "d.jpg")):
        with refused(name):
            dataset[index]
