"""The ten species: which parts each has, and the layers of one animal.

A look-alike is its base species with one or two parts replaced (`RELATIVES`). Light, pose, colours and background come
from the seed alone. So the parts that tell two species apart are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable

from iscam.errors import InputError
from iscam.menagerie import dogs, monkeys
from iscam.menagerie.paint import Layer
from iscam.menagerie.parts import Painter, Pose, Rig, plain_body

#: Base species -> its build and the value of each of its parts.
BASES: dict[str, tuple[str, dict[str, str]]] = {
    "Basenji": ("square dog", {
        "ears": "pricked", "brow": "wrinkled", "muzzle": "wedge", "chest": "bib", "coat": "saddle",
        "legs": "socked", "tail": "curled",
    }),
    "Capuchin": ("monkey", {
        "cap": "dark", "ears": "small", "face": "pale", "muzzle": "snub", "mantle": "pale", "arms": "long",
        "legs": "monkey", "tail": "prehensile",
    }),
    "Whippet": ("arched dog", {
        "ears": "rose", "brow": "mask", "muzzle": "long", "chest": "shirt", "coat": "saddle",
        "legs": "slender", "tail": "whip",
    }),
}  # fmt: skip

#: Look-alike -> its base species and the parts that replace those of the base.
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "Red Fox": ("Basenji", {"tail": "brush", "legs": "stockings"}),
    "African Wild Dog": ("Basenji", {"ears": "round", "coat": "blotched"}),
    "Ring-tailed Lemur": ("Capuchin", {"tail": "ringed"}),
    "Cotton-top Tamarin": ("Capuchin", {"cap": "crest"}),
    "Mandrill": ("Capuchin", {"muzzle": "mandrill", "tail": "stub"}),
    "Gazelle": ("Whippet", {"ears": "horned", "coat": "flank band"}),
    "Dachshund": ("Whippet", {"legs": "short", "ears": "drop"}),
}

#: Species -> its build and the value of each of its parts.
TABLE: dict[str, tuple[str, dict[str, str]]] = {
    **BASES,
    **{name: (BASES[base][0], {**BASES[base][1], **new}) for name, (base, new) in VARIANTS.items()},
}

SPECIES: tuple[str, ...] = tuple(TABLE)

#: Look-alike -> its base species and the parts in which the two differ.
RELATIVES: dict[str, tuple[str, tuple[str, ...]]] = {name: (base, tuple(new)) for name, (base, new) in VARIANTS.items()}

#: Build -> the function that makes the body, and how much higher than a Basenji's it is.
BUILDS: dict[str, tuple[Callable[[Pose, float], Rig], float]] = {
    "square dog": (dogs.square_dog, 0.0),
    "arched dog": (dogs.arched_dog, 4.0),
    "monkey": (monkeys.monkey, 0.0),
}

#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {**dogs.PAINTERS, **monkeys.PAINTERS}

#: Legs -> how much they lift the body. Short legs lower it.
LEG_LIFT: dict[str, float] = {"short": -36.0}


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
    build, values = TABLE[species]
    make, lift = BUILDS[build]
    rig = make(pose, lift + LEG_LIFT.get(values["legs"], 0.0))
    layers = plain_body(rig)
    for part, value in values.items():
        layers += PAINTERS[part, value](rig)
    return sorted(layers, key=lambda layer: layer.order)
