"""Downloads into one cache folder. Files are checked with sha256."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from iscam.errors import DownloadError


def cache_folder() -> Path:
    """Return the folder of downloads: `$ISCAM_CACHE`, or the platform's cache folder for `iscam`."""
    return Path(os.environ.get("ISCAM_CACHE") or user_cache_path("iscam"))


def fetch(url: str, sha256: str) -> Path:
    """Return the path of the file downloaded from `url`. A cached file with this name and hash needs no network.

    `sha256` holds the hexadecimal digits of the file's hash, or the first digits.

    Raises DownloadError if the file is not cached and cannot be downloaded, or if its hash differs.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    try:
        if not path.exists():
            download(url, path)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # requests, urllib and the file system raise different exceptions
        raise DownloadError(
            f"cannot download {url} ({type(error).__name__}); put the file at {path} by hand, or set ISCAM_CACHE to a "
            f"folder that contains it"
        ) from error
    if not found.startswith(sha256):
        raise DownloadError(f"{path} has sha256 {found}, not {sha256}...; delete it to download it again")
    return path


def download(url: str, path: Path) -> None:
    """Download a file. The file gets its final name only when it is complete."""
    import pooch  # imported here because the import takes a second and prints a warning in notebooks

    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with quiet(pooch.get_logger()):
        pooch.retrieve(url, known_hash=None, fname=partial.name, path=path.parent, progressbar=True)
    partial.replace(path)


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Show only warnings and errors of the logger inside the block."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
