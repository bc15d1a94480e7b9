"""The folder of a study's results: Parquet parts, a lock, and the study that it belongs to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
from tqdm import tqdm

from iscam.errors import InputError
from iscam.study.spec import Study

COLUMNS = ["model", "image", "target", "method", "metric", "value", "error"]

Row = dict[str, Any]


#: Seconds of work that a kill may lose where images are quick; slow ones are written one by one.
SECONDS_A_PART = 20.0


def images_of(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """The networks and images that a table holds."""
    return set(frame[["model", "image"]].itertuples(index=False, name=None))


def write_parts(folder: Path, images: Iterator[list[Row]], bar: tqdm) -> None:
    """Gather rows and write them as a Parquet part whenever enough work has been done."""
    rows: list[Row] = []
    last = time.monotonic()
    try:
        for image in images:
            rows += image
            bar.update()
            if time.monotonic() - last > SECONDS_A_PART:
                write_part(folder, rows)
                rows, last = [], time.monotonic()
    finally:  # an interrupt keeps what is done
        if rows:
            write_part(folder, rows)


def write_part(folder: Path, rows: list[Row]) -> None:
    write_whole(
        folder / f"part-{uuid.uuid4().hex}.parquet", pd.DataFrame(rows, columns=COLUMNS).to_parquet(index=False)
    )


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that it is there whole or not at all."""
    partial = file.with_suffix(".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {file}: {error.strerror}; what was written before is whole") from error


def read_rows(folder: str | Path) -> pd.DataFrame:
    """The rows of a study's folder, sorted."""
    parts = [pd.read_parquet(part) for part in sorted(Path(folder).glob("part-*.parquet"))]
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)
    return frame.sort_values(["model", "image", "method", "metric"], ignore_index=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this run alone; the lock goes with the process, however it ends."""
    lock = filelock.FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if sys.stderr.isatty():
                tqdm.write(f"waiting for another run that writes to {folder}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def fingerprint(study: Study) -> str:
    """A name for a study's results that changes with its fields, the files they name, and the code that computes."""
    files = [file_signature(file) for file in (study.data, *study.weights.values())]
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(study), files], sort_keys=True).encode())
    for file in sorted(Path(__file__).parents[1].rglob("*")):
        if (
            file.suffix in (".py", ".safetensors")
            and file.name not in ("cli.py", "plots.py")
            and "reproduction" not in file.parts
        ):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def file_signature(file: str | None) -> str:
    """Where a file or folder lies, how large it is and when it was written; "" where there is none."""
    path = Path(file or "").resolve()
    if file is None or not path.exists():
        return ""
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def check_same_study(folder: Path, study: Study) -> None:
    """Write down which study the folder holds, or refuse another's."""
    description = json.dumps(dataclasses.asdict(study), indent=1, sort_keys=True)
    file = folder / "study.json"
    if not file.exists():
        write_whole(file, description.encode())
    elif json.loads(file.read_text()) != json.loads(description):
        raise InputError(f"{folder} holds another study ({file} says which): choose another folder")
