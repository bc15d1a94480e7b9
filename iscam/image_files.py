"""Image files: the supported formats, and the conversion of a file to an RGB image."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from iscam.errors import InputError
from iscam.validation import printable

#: Pillow's names of the formats that `read_image` accepts. Formats that Pillow opens with another program are left out.
FORMATS = (
    "AVIF", "BMP", "DDS", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip

#: Suffixes of the files that are read from a folder of images.
SUFFIXES = {
    ".apng", ".avif", ".bmp", ".dds", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp",
}  # fmt: skip

#: Suffixes of image files that cannot be read. A warning names such files in a folder of images.
UNSUPPORTED_SUFFIXES = {
    ".ai", ".arw", ".cr2", ".cr3", ".dcm", ".djvu", ".dng", ".emf", ".eps", ".exr", ".fits", ".hdr", ".heic", ".heif",
    ".jxl", ".jxr", ".mha", ".nef", ".nii", ".nrrd", ".orf", ".raf", ".rw2", ".svg", ".wmf", ".xcf",
}  # fmt: skip

#: Maximum number of pixels of an image, both as stored and after the short side is resized to 224.
MAX_PIXELS = 100_000_000

#: Formats whose files may hold an animation or several pages.
MULTI_FRAME_FORMATS = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")

#: Possible brands of a HEIC file, which start at byte 8 of the header.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def list_image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the image files of a folder by name: first those that `read_image` supports, then those that it does not.

    Hidden files, such as the `._a.jpg` that macOS creates beside an image, are left out.
    """
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    supported = [file for file in files if file.suffix.lower() in SUFFIXES]
    return supported, [file for file in files if file.suffix.lower() in UNSUPPORTED_SUFFIXES]


def read_image(path: Path, upright: bool = False) -> Image.Image:
    """Read an image file as RGB with 8 bits per channel.

    `upright=True` applies the EXIF orientation. Transparent pixels are blended with white. Greyscale images with more
    than 8 bits are scaled to [0, 255] from the smallest of the ranges [0, 1], [0, 255] and [0, 65535] that contains
    their values; 16-bit images always use [0, 65535]. If the file has several frames or pages, the function reads only
    the first and warns.

    Raises InputError if the file is missing, unreadable, truncated or not a regular file, if a pixel is not finite or
    lies outside these ranges, or if the image has more than 100 million pixels, as stored or resized.
    """
    try:
        check_regular_file(path)
        with open_image(path) as image:
            width, height = image.size
            long, short = max(width, height), min(width, height)
            if width * height > MAX_PIXELS or 224 * 224 * long / short > MAX_PIXELS:
                raise ValueError(f"it has {width}x{height} pixels; the limit is {MAX_PIXELS:,}, as stored or resized")
            image.load()
            rgb = to_rgb(ImageOps.exif_transpose(image) if upright else image)
            several = image.format in MULTI_FRAME_FORMATS and getattr(image, "is_animated", False)
    except Exception as error:  # Pillow's decoders raise many types of exceptions
        raise InputError(f"cannot read the image {printable(path)}: {reason(error, path)}") from error
    if several:
        warnings.warn(f"{printable(path)} has several frames; only the first is read", stacklevel=2)
    return rgb


def check_regular_file(path: Path) -> None:
    """Raise an error unless the path is a regular file. Opening a named pipe, for example, would block forever."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")


def open_image(path: Path) -> Image.Image:
    """Open a file in one of the `FORMATS` that this build of Pillow supports."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # read_image has its own limit
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB.

    Raises ValueError for pixel values without a known range.
    """
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits per pixel
        image = Image.fromarray(to_8_bits(np.asarray(image, dtype=np.float64), image.mode))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale greyscale values of Pillow's modes I;16, I and F to [0, 255]."""
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are NaN or infinite")
    ranges = {"I": (255, 65535), "F": (1, 255, 65535)}.get(mode, (65535,))
    low, high = values.min(), values.max()
    rounding = 1e-6 if mode == "F" else 0
    full = next((each for each in ranges if high <= each * (1 + rounding)), None)
    if full is None or low < -rounding * full:
        raise ValueError(f"its values range from {low:g} to {high:g}; scale them to [0, {ranges[0]}] or [0, 65535]")
    return (values.clip(0, full) * (255 / full)).round().astype(np.uint8)


def reason(error: Exception, path: Path) -> str:
    """Return the reason why a file cannot be read, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if is_heic(path):
        return "HEIC is not supported; convert it to JPEG or PNG"
    if isinstance(error, UnidentifiedImageError):
        return f"its content is in none of the supported formats {', '.join(FORMATS)}"
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def is_heic(path: Path) -> bool:
    """Return True for a regular file that starts with the header of a HEIC file."""
    try:
        check_regular_file(path)
        with open(path, "rb") as file:
            header = file.read(12)
    except (OSError, ValueError):
        return False
    return header[4:8] == b"ftyp" and header[8:] in HEIC_BRANDS
