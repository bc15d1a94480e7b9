"""The menagerie, an embedded benchmark: drawings whose every part is known, and networks that classify them."""

from iscam.menagerie.animals import RELATIVES as RELATIVES
from iscam.menagerie.animals import SPECIES as SPECIES
from iscam.menagerie.draw import Drawing as Drawing
from iscam.menagerie.draw import draw as draw
