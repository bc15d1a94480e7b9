"""The next menagerie: 24 species that are told apart by combinations of parts. Its networks are not trained yet.

It replaces `iscam.menagerie` when they are. Until then, nothing in the package uses it.
"""

from iscam.menagerie_next.animals import RELATIVES as RELATIVES
from iscam.menagerie_next.animals import SPECIES as SPECIES
from iscam.menagerie_next.draw import Drawing as Drawing
from iscam.menagerie_next.draw import draw as draw
