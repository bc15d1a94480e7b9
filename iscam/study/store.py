"""The folder of a study: Parquet parts, a lock, the description of the study, and a record of each run."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import pyarrow
from tqdm import tqdm

from iscam.errors import InputError, StoreError
from iscam.study.spec import Study
from iscam.validation import printable

COLUMNS = ["model", "image", "target", "method", "metric", "value", "error"]
KEYS = ["model", "image", "method", "metric"]

#: Current names of columns, by the names that they have in older stores.
OLD_COLUMNS = {"picture": "image"}

#: Fields of a study that older stores lack, with the values that those stores used.
OPTIONAL: dict[str, Any] = {"pixels_per_step": 224}

#: Seconds of work per part. This is the maximum loss if the process is killed. An image that takes longer gets a
#: separate part.
SECONDS_PER_PART = 20.0

Row = dict[str, Any]

#: One unit of work: the name of a model and the number of an image.
Task = tuple[str, int]


def images_of(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the pairs of model and image in a table."""
    return set(frame[["model", "image"]].itertuples(index=False, name=None))


def write_parts(folder: Path, images: Iterator[list[Row]], bar: tqdm) -> None:
    """Write the rows of images as Parquet parts, one part per `SECONDS_PER_PART` of work.

    If an exception such as an interrupt occurs, the finished rows are written before it is raised again.
    """
    rows: list[Row] = []
    last = time.monotonic()
    try:
        for image in images:
            rows += image
            bar.update()
            if time.monotonic() - last > SECONDS_PER_PART:
                write_part(folder, rows)
                rows, last = [], time.monotonic()
    finally:
        if rows:
            write_part(folder, rows)


def write_part(folder: Path, rows: list[Row]) -> None:
    """Write one Parquet part."""
    content = pd.DataFrame(rows, columns=COLUMNS).to_parquet(index=False)
    write_file(folder / f"part-{uuid.uuid4().hex}.parquet", content)


def write_file(file: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that the final file is either complete or absent.

    Raises StoreError if the file cannot be written.
    """
    partial = file.with_suffix(".partial")
    try:
        with partial.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())  # otherwise a crash of the machine may leave an empty file with the final name
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {file}: {error.strerror or error}; earlier results are kept") from error


def check_readable(folder: Path) -> None:
    """Raise StoreError if the folder exists but cannot be read, and InputError for a name that no folder can have."""
    try:
        os.listdir(folder)
        os.stat(folder / "study.json")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:  # ValueError: the name has a null character
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise InputError(f"the output {printable(folder)} cannot be the name of a folder") from error
        raise StoreError(f"cannot read {folder}: {error.strerror or error}") from error


def read_rows(folder: str | Path) -> pd.DataFrame:
    """Read the rows of a study's folder, with the columns of `run_study`, and sort them.

    Raises StoreError if the folder does not exist, if a part cannot be read or belongs to another study, or if two
    parts have the same rows. The message names the part. No file is changed.
    """
    folder = Path(folder)
    check_readable(folder)
    if not folder.is_dir():
        raise StoreError(f"no study in {folder}: no such folder")
    parts = [read_part(file).assign(part=file.name) for file in sorted(folder.glob("part-*.parquet"))]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COLUMNS, "part"])
    check_no_repeats(folder, frame)
    if (folder / "study.json").exists():
        check_rows(folder, frame, read_description(folder))
    return frame[COLUMNS].sort_values(KEYS, ignore_index=True)


def read_part(file: Path) -> pd.DataFrame:
    """Read the rows of one part."""
    try:
        part = pd.read_parquet(file).rename(columns=OLD_COLUMNS)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = "it is empty" if file.stat().st_size == 0 else " ".join(str(error).split())[:200]
        raise StoreError(f"cannot read {file}: {reason}; delete it to compute its images again") from error
    if missing := [column for column in COLUMNS if column not in part.columns]:
        raise StoreError(f"{file} is not a part of a study: it lacks the columns {', '.join(missing)}; move it away")
    return part[COLUMNS]


def check_no_repeats(folder: Path, frame: pd.DataFrame) -> None:
    """Raise StoreError if a row appears twice, for example because a part was copied."""
    repeated = frame.duplicated(KEYS, keep=False)
    if repeated.any():
        first = frame.loc[repeated, KEYS].iloc[0]
        parts = frame.loc[repeated & (frame[KEYS] == first).all(axis=1), "part"].unique()
        where = f"{parts[0]} and {parts[1]} hold the same rows" if len(parts) > 1 else f"{parts[0]} repeats rows"
        raise StoreError(f"{folder}: {where} ({', '.join(map(str, first))}); delete one copy")


def check_rows(folder: Path, frame: pd.DataFrame, study: Mapping[str, Any]) -> None:
    """Raise StoreError for rows of another study and for images with missing rows."""
    fields = {"model": "models", "method": "methods", "metric": "metrics"}
    for column, field in fields.items():
        foreign = ~frame[column].isin(list(study[field]))
        if foreign.any():
            row = frame[foreign].iloc[0]
            raise StoreError(f"{folder / row['part']} belongs to another study: it has the {column} {row[column]!r}")
    expected = len(study["methods"]) * len(study["metrics"])
    counts = frame.groupby(["model", "image"])["part"].agg(["size", "first"])
    if len(wrong := counts[counts["size"] != expected]):
        row = wrong.iloc[0]
        raise StoreError(
            f"{folder / row['first']} has {row['size']} rows of the image {wrong.index[0][1]!r} instead of {expected}; "
            f"delete it to compute its images again"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder inside the block. The folder is created if it does not exist.

    The lock is also released if the process exits.

    Raises StoreError if the folder cannot be written.
    """
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
        raise StoreError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def read_description(folder: Path) -> dict[str, Any]:
    """Read study.json: the fields of the study, and in "sources" the signatures of the files that the study names."""
    file = folder / "study.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {file}: {error}; delete it if the folder's parts are from this study") from error
    names = {each.name for each in dataclasses.fields(Study)}
    if not isinstance(found, dict) or not names - OPTIONAL.keys() <= set(found):
        raise StoreError(f"{file} does not describe a study; it must have the keys {', '.join(sorted(names))}")
    for name, kind in {"models": list, "methods": dict, "metrics": list, "sources": dict}.items():
        value = found.get(name, kind())  # older stores have no sources
        if not isinstance(value, kind) or not all(isinstance(each, str) for each in value):
            raise StoreError(f"{file} does not describe a study: the value of {name} has the wrong type")
    return OPTIONAL | found


def write_description(folder: Path, study: Study, sources: Mapping[str, str]) -> None:
    """Write study.json."""
    described = dataclasses.asdict(study) | {"sources": dict(sources)}
    write_file(folder / "study.json", json.dumps(described, indent=1, sort_keys=True).encode())


def check_same_study(folder: Path, study: Study, sources: Mapping[str, str]) -> None:
    """Raise StoreError if the folder holds another study or if one of its sources has changed since it began.

    A folder without study.json passes the check. Files that no longer exist are not compared, and neither are sources
    that an earlier version of the package did not record.
    """
    if not (folder / "study.json").exists():
        return
    found = read_description(folder)
    wanted = json.loads(json.dumps(dataclasses.asdict(study)))
    if differing := [name for name in wanted if found[name] != wanted[name]]:
        fields = ", ".join(differing)
        raise StoreError(
            f"{folder} holds another study, which differs in {fields} (see study.json); choose another folder"
        )
    known = found.get("sources", {})  # absent in older stores
    if changed := [name for name in sources if known.get(name, sources[name]) != sources[name]]:
        what = ", ".join(changed)
        raise StoreError(f"{what} changed since the study in {folder} began; choose another folder or undo the change")
