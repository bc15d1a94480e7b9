"""Drawings of 24 species that differ in combinations of parts, and the networks trained on them."""

from iscam.menagerie.animals import RELATIVES as RELATIVES
from iscam.menagerie.animals import SPECIES as SPECIES
from iscam.menagerie.draw import Drawing as Drawing
from iscam.menagerie.draw import draw as draw
