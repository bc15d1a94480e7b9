#!/usr/bin/env python3
"""Everything from a clean checkout, with nothing but Python 3.11 or newer, pip and venv:

python3 run.py setup                                                make .venv, once and when pyproject.toml changes
python3 run.py book [--parameters FILE] [--set NAME=VALUE]...       run the notebooks, build the book
python3 run.py test [PYTEST ARGUMENTS]                              run the tests
python3 run.py check                                                open every page of the built book in a browser
python3 run.py readme                                               write the README's figure and results
python3 run.py address URL                                          write the repository's address everywhere
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("ISCAM_VENV", ROOT / ".venv"))
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: object) -> None:
    """Run a command where the caller stands, and end with its exit code if it fails."""
    environment = dict(os.environ, JUPYTER_PREFER_ENV_PATH="1", PYDEVD_DISABLE_FILE_VALIDATION="1")
    if code := subprocess.run([str(part) for part in command], env=environment).returncode:
        sys.exit(code)


def setup() -> None:
    """Make .venv and install the package with all it needs, unless that is done."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / "iscam-setup"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.time()
    print(f"setting up {VENV} (several GB, mostly torch; a few minutes)", flush=True)
    if not PYTHON.exists():
        try:
            import ensurepip  # noqa: F401
            import venv  # noqa: F401
        except ImportError:
            sys.exit("Python's venv is missing; on Debian or Ubuntu: apt install python3-venv")
        run(sys.executable, "-m", "venv", VENV)
    package = f"{ROOT}[book,test]"
    if shutil.which("uv"):
        run("uv", "pip", "install", "--quiet", "--python", PYTHON, "-e", package)
    else:
        pip = (PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "--quiet")
        run(*pip, "-e", package)
    stamp.write_text(wanted)
    print(f"set up in {time.time() - started:.0f} s", flush=True)


def test(*arguments: str) -> None:
    """Run pytest; the whole suite on as many cores as there are."""
    os.chdir(ROOT)
    run(PYTHON, "-m", "pytest", *(arguments or ("-n", "auto", "--maxprocesses", "8")))


def book(*arguments: str) -> None:
    run(PYTHON, ROOT / "book/make.py", *arguments)


def check(*arguments: str) -> None:
    run(PYTHON, ROOT / "book/check.py", *arguments)


def readme() -> None:
    run(PYTHON, ROOT / "book/readme.py")


def address(url: str) -> None:
    """Replace the repository's address, which pyproject.toml holds, in every tracked file."""
    old = (ROOT / "pyproject.toml").read_text().split('Repository = "https://github.com/')[1].split('"')[0]
    new = url.removeprefix("https://github.com/").strip("/")
    listed = subprocess.run(["git", "grep", "-lF", old], cwd=ROOT, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        file = ROOT / name
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    print(f"{old} is now {new} in {len(listed.splitlines())} files")


TASKS = {"setup": lambda: None, "book": book, "test": test, "check": check, "readme": readme, "address": address}

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (this file must say so to an older Python)
        sys.exit("Python 3.11 or newer is needed")
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit()
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS or (sys.argv[1] == "address" and len(sys.argv) != 3):
        sys.exit(__doc__)
    if sys.argv[1] != "address":
        setup()
    TASKS[sys.argv[1]](*sys.argv[2:])
