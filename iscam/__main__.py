"""`python -m iscam` is the command line."""

from iscam.cli import main

main()
