"""Signatures of the files and the code that a study uses. They reveal changes of images, weights and a user's code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from iscam.engine.fingerprint import state_digest
from iscam.errors import InputError
from iscam.ilsvrc import ANNOTATIONS, CLASSES, IMAGES, TABLE
from iscam.image_files import list_image_files
from iscam.methods import CONTROLS, METHODS
from iscam.metrics import METRICS
from iscam.study.code import code_digest
from iscam.study.spec import Study
from iscam.zoo import find_function, load_model, of_a_function, source

#: Maximum size, in bytes, of a folder whose contents are compared. A larger folder is compared by sizes and
#: modification times, because reading the 6.7 GB of ImageNet's validation images would take as long as many studies.
MAX_CONTENT = 1 << 30

CHUNK = 1 << 20

#: Sources of images that are not files of the user.
DRAWN_OR_CACHED = ("menagerie", "figures")

#: The package's own methods and metrics. Entries that a user adds or replaces are not among them.
PACKAGE_ENTRIES = [*METHODS.values(), *CONTROLS.values(), *METRICS.values()]


def file_signature(path: str | Path | None) -> str:
    """Return a string that changes with the content of a file or of a folder of images.

    The string is empty if `path` is None or does not exist. The signature depends on names, sizes and contents, but not
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
    """Return the signatures of the files that a study names, of a user's networks, and of its methods and metrics.

    The keys describe the sources, for example "weights of vgg16". Missing files are left out, and so are networks that
    cannot be loaded.
    """
    files: dict[str, str | None] = {} if study.data in DRAWN_OR_CACHED else {"images": study.data}
    files |= {f"weights of {model}": file for model, file in study.weights.items()}
    files |= {f"code of {model}": model.rpartition(":")[0] for model in study.models if ".py:" in model}
    found = {name: file_signature(file) for name, file in files.items()}
    found |= {f"network of {model}": network_signature(study, model) for model in study.models}
    found |= {name: entry_signature(entry) for name, entry in entries_of(study).items()}
    return {name: signature for name, signature in found.items() if signature}


def network_signature(study: Study, model: str) -> str:
    """Return a digest of the state and the code of the network that a user's function returns.

    The string is empty for other models and for a network that cannot be loaded.
    """
    if source(model) is not of_a_function:
        return ""
    try:
        net = load_model(model, study.weights.get(model, "default"))
        return f"{state_digest(net.model)} {code_digest(find_function(model), net)}"
    except (InputError, RuntimeError):  # RuntimeError: a tensor without values, such as one on the device meta
        return ""


def entries_of(study: Study) -> dict[str, object]:
    """Return the entries of METHODS, CONTROLS and METRICS that a study uses."""
    methods = {**METHODS, **CONTROLS}
    used = {f"method {each.method}": methods.get(each.method) for each in study.method_entries.values()}
    return used | {f"metric {each.name}": each.metric for each in study.metric_calls}


def entry_signature(entry: object) -> str:
    """Return a digest of the code of a user's method or metric, and a constant text for an entry of the package."""
    return "iscam" if entry is None or entry in PACKAGE_ENTRIES else code_digest(entry)


def fingerprint(study: Study, sources: Mapping[str, str]) -> str:
    """Return the name of a study's results in the cache.

    The name changes with the fields of the study, their signatures `sources`, and the code of the package.
    """
    text = json.dumps([dataclasses.asdict(study), sources], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for file in sorted(Path(__file__).parents[1].rglob("*")):
        if file.suffix in (".py", ".safetensors") and computes(file):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def computes(file: Path) -> bool:
    """Return False for files of the package that do not affect any result."""
    return file.name not in ("cli.py", "plots.py") and "reproduction" not in file.parts
