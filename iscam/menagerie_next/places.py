"""The kinds of places that scenes show, and their colours."""

from __future__ import annotations

from typing import NamedTuple

from iscam.menagerie_next.shapes import Colour


class Place(NamedTuple):
    """The colours of one kind of place. Pairs of colours run from top to bottom."""

    sky: tuple[Colour, Colour]  # or the wall of a room
    hills: Colour
    ground: tuple[Colour, Colour]
    clutter: Colour
    setting: str  # "open", "trees" or "room"


#: Every drawing depends on this order: do not change it.
PLACES: dict[str, Place] = {
    "meadow": Place(
        ((150, 196, 222), (226, 236, 226)), (136, 172, 140), ((158, 186, 104), (104, 146, 74)), (88, 132, 66), "open"
    ),
    "forest": Place(
        ((92, 124, 96), (168, 184, 130)), (74, 104, 82), ((124, 128, 76), (92, 88, 56)), (66, 96, 58), "trees"
    ),
    "sand": Place(
        ((188, 214, 222), (244, 230, 204)), (222, 190, 146), ((234, 208, 160), (204, 168, 118)), (176, 152, 98), "open"
    ),
    "room": Place(
        ((206, 196, 176), (222, 210, 188)), (148, 172, 168), ((188, 148, 110), (150, 110, 80)), (120, 128, 84), "room"
    ),
    "dusk": Place(
        ((126, 122, 162), (244, 192, 152)), (122, 112, 140), ((150, 136, 108), (104, 94, 84)), (92, 92, 84), "trees"
    ),
    "shore": Place(
        ((176, 206, 220), (220, 230, 232)), (134, 172, 186), ((186, 184, 174), (146, 142, 134)), (122, 132, 108), "open"
    ),
    "snow": Place(
        ((170, 190, 212), (222, 226, 232)),
        (150, 168, 184),
        ((232, 234, 238), (196, 206, 220)),
        (112, 128, 126),
        "trees",
    ),
}
