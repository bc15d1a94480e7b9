"""The entry point of `python -m iscam`, which runs the command line."""

from iscam.cli import main

main()
