"""Downloads: one cache folder, checked by sha256."""

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
    """The folder of downloads: `$ISCAM_CACHE`, or the platform's cache folder for `iscam`."""
    return Path(os.environ.get("ISCAM_CACHE") or user_cache_path("iscam"))


def fetch(url: str, sha256: str) -> Path:
    """Path of the downloaded `url`. A cached file with this name and the right hash needs no network.

    `sha256` is the file's hash in hexadecimal digits, or their beginning.

    Raises DownloadError if the file is not cached and cannot be downloaded, or if it has another hash.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    try:
        if not path.exists():
            download(url, path)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # requests, urllib and the file system each raise their own
        raise DownloadError(
            f"cannot download {url} ({type(error).__name__}); put the file at {path} by hand, or set ISCAM_CACHE to a "
            f"folder that has it"
        ) from error
    if not found.startswith(sha256):
        raise DownloadError(f"{path} has sha256 {found}, not {sha256}...; delete it to download it again")
    return path


def download(url: str, path: Path) -> None:
    """Download a file; it appears under its name only when it is complete."""
    import pooch  # here: it takes a second, and in notebooks it prints a warning of its own

    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with quiet(pooch.get_logger()):
        pooch.retrieve(url, known_hash=None, fname=partial.name, path=path.parent, progressbar=True)
    partial.replace(path)


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Show only warnings and errors."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
