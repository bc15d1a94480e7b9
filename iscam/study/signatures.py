"""Signatures of the files that a study uses. They reveal changes of images, weights or a user's model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from iscam.ilsvrc import ANNOTATIONS, CLASSES, IMAGES, TABLE
from iscam.image_files import list_image_files
from iscam.study.spec import Study

#: Maximum size, in bytes, of a folder whose contents are compared. A larger folder is compared by sizes and
#: modification times, because reading the 6.7 GB of ImageNet's validation images would take as long as many studies.
MAX_CONTENT = 1 << 30

CHUNK = 1 << 20

#: Sources of images that are not files of the user.
DRAWN_OR_CACHED = ("menagerie", "figures")


def file_signature(path: str | Path | None) -> str:
    """Return a text that changes with the content of a file or of a folder of images.

    The text is empty if `path` is None or does not exist. The signature depends on names, sizes and contents, but not
    on the location, so a moved file keeps its signature. A folder of more than 1 GiB is compared by names, sizes and
    modification times. For a folder in ILSVRC's layout, the tables, annotations and validation images are compared. For
    any other folder, the images directly in the folder are compared.
    """
    if path is None:
        return ""
    found = Path(path)
    try:
        if found.is_dir():
            return folder_signature(found)
        return content_digest(found) if found.is_file() else ""
    except (OSError, ValueError):  # no permission, or a name that no file can have
        return ""


def folder_signature(folder: Path) -> str:
    files = sorted(folder_files(folder))
    sizes = {file: file.stat().st_size for file in files}
    by_content = sum(sizes.values()) <= MAX_CONTENT
    digest = hashlib.sha256()
    for file, size in sizes.items():
        last = content_digest(file) if by_content else str(file.stat().st_mtime_ns)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0{last}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def folder_files(folder: Path) -> Iterable[Path]:
    """Yield the files of a folder of images that `load_images` may read."""
    places = [folder / IMAGES, folder / ANNOTATIONS]
    if (folder / TABLE).is_file() or places[1].is_dir():
        yield from (file for file in (folder / TABLE, folder / CLASSES) if file.is_file())
        yield from (file for place in places if place.is_dir() for file in place.iterdir() if file.is_file())
    else:
        yield from (file for file in list_image_files(folder)[0] if file.is_file())


def content_digest(file: Path) -> str:
    """Return the sha256 of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def source_signatures(study: Study) -> dict[str, str]:
    """Return the signatures of the files that a study names.

    The keys describe the files, for example "weights of vgg16". Missing files are left out.
    """
    files: dict[str, str | None] = {} if study.data in DRAWN_OR_CACHED else {"images": study.data}
    files |= {f"weights of {model}": file for model, file in study.weights.items()}
    files |= {f"code of {model}": model.rpartition(":")[0] for model in study.models if ".py:" in model}
    return {name: signature for name, file in files.items() if (signature := file_signature(file))}


def fingerprint(study: Study) -> str:
    """Return the name of a study's results in the cache.

    The name changes with the fields of the study, the files that they name, and the code of the package.
    """
    text = json.dumps([dataclasses.asdict(study), source_signatures(study)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for file in sorted(Path(__file__).parents[1].rglob("*")):
        if file.suffix in (".py", ".safetensors") and computes(file):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def computes(file: Path) -> bool:
    """Return False for files of the package that do not affect any result."""
    return file.name not in ("cli.py", "plots.py") and "reproduction" not in file.parts
