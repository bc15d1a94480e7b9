"""The embedded benchmark: drawings whose every part is known, and networks that tell them apart."""

from iscam.menagerie.draw import RELATIVES as RELATIVES
from iscam.menagerie.draw import SPECIES as SPECIES
from iscam.menagerie.draw import Drawing as Drawing
from iscam.menagerie.draw import draw as draw
