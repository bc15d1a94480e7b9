"""Downloads: one cache folder, checked by sha256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from platformdirs import user_cache_path

from iscam.errors import InputError


def cache_folder() -> Path:
    """The folder of downloads: `$ISCAM_CACHE`, or else the platform's cache folder for `iscam`."""
    return Path(os.environ.get("ISCAM_CACHE") or user_cache_path("iscam"))


def fetch(url: str, sha256: str) -> Path:
    """Path of the downloaded `url`; a file of that name in the cache with the right hash needs no network.

    Parameters: `sha256` is the file's hash in hexadecimal digits, or their beginning.
    Raises `InputError` where the file is neither cached nor to be had, or has another hash.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    try:
        if not path.exists():
            import pooch  # here: it takes a second, and in notebooks it prints a warning of its own

            pooch.get_logger().setLevel("WARNING")
            partial = path.with_name(f"{path.name}.{os.getpid()}.part")
            pooch.retrieve(url, known_hash=None, fname=partial.name, path=path.parent, progressbar=True)
            partial.replace(path)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # requests, urllib and the file system each raise their own
        raise InputError(
            f"cannot download {url} ({type(error).__name__}); put the file at {path} by hand, or set ISCAM_CACHE "
            f"to a folder that has it"
        ) from error
    if not found.startswith(sha256):
        raise InputError(f"{path} has sha256 {found}, not {sha256}...: delete it, and it is downloaded again")
    return path
