"""The next menagerie: 24 species that differ in combinations of parts.

It will replace `iscam.menagerie` when its three networks are trained; so far, its ResNet is. Until then, only tests use
it. Shapes, paint, things and the landscapes of the background are shared with `iscam.menagerie`.
"""

from iscam.menagerie_next.animals import RELATIVES as RELATIVES
from iscam.menagerie_next.animals import SPECIES as SPECIES
from iscam.menagerie_next.draw import Drawing as Drawing
from iscam.menagerie_next.draw import draw as draw
