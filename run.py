#!/usr/bin/env python3
"""Set up, build and test from a clean checkout. This requires Python 3.11 or newer with pip and venv.

python3 run.py setup                                            make .venv, or update it if pyproject.toml has changed
python3 run.py book [--parameters FILE] [--set NAME=VALUE]...   run the notebooks and build the book
python3 run.py test [PYTEST ARGUMENTS]                          run the tests
python3 run.py check                                            open every page of the built book in a browser
python3 run.py readme                                           write the README's figure and findings

Every command first makes .venv if it is missing.
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
    """Run a command in the current folder. Exit with its code if it fails."""
    environment = dict(os.environ, JUPYTER_PREFER_ENV_PATH="1", PYDEVD_DISABLE_FILE_VALIDATION="1")
    code = subprocess.run([str(part) for part in command], env=environment).returncode
    if code:
        sys.exit(code)


def setup() -> None:
    """Unless .venv is up to date, make it and install the package with everything that the book and the tests need."""
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
    """Run pytest. Without arguments, it runs all tests on up to 8 cores."""
    os.chdir(ROOT)
    run(PYTHON, "-m", "pytest", *(arguments or ("-n", "auto", "--maxprocesses", "8")))


def book(*arguments: str) -> None:
    """Run the notebooks and build the book."""
    run(PYTHON, ROOT / "book/make.py", *arguments)


def check(*arguments: str) -> None:
    """Open every page of the built book in a browser."""
    run(PYTHON, ROOT / "book/check.py", *arguments)


def readme() -> None:
    """Write the README's figure and findings from the recorded runs."""
    run(PYTHON, ROOT / "book/readme.py")


TASKS = {"setup": lambda: None, "book": book, "test": test, "check": check, "readme": readme}

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 (an older Python must get this message)
        sys.exit("Python 3.11 or newer is needed")
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] not in TASKS:
        sys.exit(f"unknown command {sys.argv[1]!r}; valid commands: {', '.join(TASKS)}")
    setup()
    TASKS[sys.argv[1]](*sys.argv[2:])
