"""The 24 species in six groups of four, the parts of each species, and the layers of an animal.

In a group, exactly three parts vary, each between two values. Any two species of a group differ in exactly two of the
three. So no single part tells a species from its relatives, and any two of the three parts do. All other parts are the
same in the group. Species of different groups differ in at least three parts. Light, pose, colours and background come
from the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from iscam.errors import InputError
from iscam.menagerie import dogs, fourlegged, hoofed, monkeys
from iscam.menagerie.paint import Layer
from iscam.menagerie.parts import Painter, Pose, Rig, plain_body

#: The values of the three varying parts (0: the first, 1: the second) of the four species of a group.
CODE: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))


class Group(NamedTuple):
    """Four species with the same body. `names` has the order of `CODE`."""

    body: str
    parts: dict[str, tuple[str, ...]]  # part -> its value, or the two values between which it varies
    names: tuple[str, str, str, str]

    @property
    def varying(self) -> tuple[str, ...]:
        """The three parts that vary."""
        return tuple(part for part, values in self.parts.items() if len(values) == 2)

    def values(self, number: int) -> dict[str, str]:
        """The value of each part of the species with that number."""
        bits = dict(zip(self.varying, CODE[number], strict=True))
        return {part: values[bits.get(part, 0)] for part, values in self.parts.items()}


GROUPS: tuple[Group, ...] = (
    Group("square dog", {
        "ears": ("pricked", "drop"), "face": ("wedge",), "chest": ("bib",), "coat": ("saddle", "blotched"),
        "legs": ("socked",), "tail": ("curled", "brush"),
    }, ("Basenji", "African Wild Dog", "Retriever", "Beagle")),
    Group("square dog", {
        "ears": ("pricked", "huge"), "face": ("fox",), "chest": ("ruff",), "coat": ("saddle", "black back"),
        "legs": ("black", "pale"), "tail": ("brush",),
    }, ("Red Fox", "Black-backed Jackal", "Fennec Fox", "Maned Wolf")),
    Group("arched dog", {
        "ears": ("rose", "drop"), "face": ("long",), "chest": ("shirt",), "coat": ("saddle", "spotted"),
        "legs": ("slender",), "tail": ("whip", "plume"),
    }, ("Whippet", "Genet", "Saluki", "Dalmatian")),
    Group("hoofed", {
        "ears": ("horns", "mane"), "face": ("muzzled",), "chest": ("collar",), "coat": ("flank band", "striped"),
        "legs": ("hoofed", "banded"), "tail": ("tufted",),
    }, ("Gazelle", "Bongo", "Okapi", "Zebra")),
    Group("monkey", {
        "cap": ("dark", "crest"), "face": ("pale", "mask"), "mantle": ("bib",), "arms": ("long",),
        "legs": ("long",), "tail": ("prehensile", "ringed"),
    }, ("Capuchin", "Ring-tailed Lemur", "Common Marmoset", "Cotton-top Tamarin")),
    Group("monkey", {
        "cap": ("hood",), "face": ("mandrill", "red"), "mantle": ("shade", "cape"), "arms": ("gloved",),
        "legs": ("gloved",), "tail": ("stub", "tasselled"),
    }, ("Mandrill", "Hamadryas Baboon", "Long-tailed Macaque", "Snow Monkey")),
)  # fmt: skip

#: Species -> its body and the value of each of its parts.
TABLE: dict[str, tuple[str, dict[str, str]]] = {
    name: (group.body, group.values(number)) for group in GROUPS for number, name in enumerate(group.names)
}

SPECIES: tuple[str, ...] = tuple(TABLE)


def differing_parts(species: str, other: str) -> tuple[str, ...]:
    """The parts in which two species of one group differ."""
    values, others = TABLE[species][1], TABLE[other][1]
    return tuple(part for part in values if values[part] != others[part])


#: Species -> each other species of its group, and the two parts in which they differ.
RELATIVES: dict[str, dict[str, tuple[str, ...]]] = {
    name: {other: differing_parts(name, other) for other in group.names if other != name}
    for group in GROUPS
    for name in group.names
}

#: Name of a body -> the function that makes it.
BODIES: dict[str, Callable[[Pose], Rig]] = {
    "square dog": dogs.square_dog,
    "arched dog": dogs.arched_dog,
    "hoofed": hoofed.hoofed,
    "monkey": monkeys.monkey,
}

#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    **fourlegged.PAINTERS,
    **dogs.PAINTERS,
    **hoofed.PAINTERS,
    **monkeys.PAINTERS,
}


def check_species(species: str) -> None:
    """Raise InputError if there is no such species."""
    if not isinstance(species, str) or species not in TABLE:
        raise InputError(f"unknown species {species!r}; valid species: {', '.join(SPECIES)}")


def parts_of(species: str) -> tuple[str, ...]:
    """The names of the parts that a drawing of the species can leave out. Raises InputError for an unknown species."""
    check_species(species)
    return tuple(TABLE[species][1])


def animal_layers(species: str, pose: Pose) -> list[Layer]:
    """All layers of an animal, from back to front."""
    body, values = TABLE[species]
    rig = BODIES[body](pose)
    layers = plain_body(rig)
    for part, value in values.items():
        layers += PAINTERS[part, value](rig)
    return sorted(layers, key=lambda layer: layer.order)
