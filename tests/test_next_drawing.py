"""The species of the next menagerie: which parts tell them apart, in the table and in the drawings."""

import itertools

import numpy as np
import pytest

from iscam.menagerie.parts import COATS, random_pose
from iscam.menagerie_next import RELATIVES, SPECIES, draw
from iscam.menagerie_next.animals import GENERA, PAINTERS, TABLE, parts_of
from iscam.menagerie_next.draw import random_stream

IN_ONE_GENUS = [pair for genus in GENERA for pair in itertools.combinations(genus.names, 2)]
IN_TWO_GENERA = [pair for pair in itertools.combinations(SPECIES, 2) if pair not in IN_ONE_GENUS]


def differences(species, other):
    """The parts that one species has and the other lacks or has with another value."""
    values, others = TABLE[species][1], TABLE[other][1]
    return {part for part in values.keys() | others.keys() if values.get(part) != others.get(part)}


# ------------------------------------------------------------------------------------------------------------- species


def test_there_are_six_genera_of_four_species():
    assert len(SPECIES) == len(set(SPECIES)) == 24 and {"Basenji", "Capuchin", "Whippet"} <= set(SPECIES)
    assert len(GENERA) == 6 and all(len(genus.varying) == 3 for genus in GENERA)
    assert all(len(parts_of(species)) == 6 for species in SPECIES)


@pytest.mark.parametrize("species, other", IN_ONE_GENUS)
def test_relatives_differ_in_exactly_two_parts(species, other):
    assert TABLE[species][0] == TABLE[other][0] and list(TABLE[species][1]) == list(TABLE[other][1])
    assert len(differences(species, other)) == 2
    assert set(RELATIVES[species][other]) == set(RELATIVES[other][species]) == differences(species, other)


@pytest.mark.parametrize("genus", GENERA, ids=lambda genus: genus.names[0])
def test_in_a_genus_no_part_decides_and_any_two_varying_parts_do(genus):
    values = [TABLE[name][1] for name in genus.names]
    for part in parts_of(genus.names[0]):
        shared = [sum(others[part] == own[part] for others in values) for own in values]
        assert shared == ([2] * 4 if part in genus.varying else [4] * 4), part
    for one, two in itertools.combinations(genus.varying, 2):
        assert len({(own[one], own[two]) for own in values}) == 4


@pytest.mark.parametrize("species, other", IN_TWO_GENERA)
def test_species_of_different_genera_differ_in_at_least_three_parts(species, other):
    assert len(differences(species, other)) >= 3
    assert other not in RELATIVES[species]


def test_every_painter_is_used():
    assert set(PAINTERS) == {item for _, values in TABLE.values() for item in values.items()}


# ------------------------------------------------------------------------------------------------------------ drawings


@pytest.mark.parametrize("genus", GENERA, ids=lambda genus: genus.names[0])
def test_relatives_without_the_parts_in_which_they_differ_are_the_same_drawing(genus):
    for species, other in itertools.combinations(genus.names, 2):
        parts = RELATIVES[species][other]
        assert np.array_equal(draw(species, 9, parts).image, draw(other, 9, parts).image), (species, other)
        for part in parts:
            assert not np.array_equal(draw(species, 9, part).image, draw(other, 9, part).image), (species, other)
    bare = {draw(species, 9, genus.varying).image.tobytes() for species in genus.names}
    assert len(bare) == 1


def test_coat_colour_does_not_depend_on_the_species():
    poses = [random_pose(random_stream(seed, "pose")) for seed in range(200)]
    nearest = {int(np.argmin([np.abs(np.subtract(pose.coat, coat)).sum() for coat in COATS])) for pose in poses}
    assert nearest == set(range(len(COATS)))
    for genus in GENERA:
        # Without its parts, every species of a genus is the same plain body in the colour of the coat.
        plain = {draw(species, 6, parts_of(species)).image.tobytes() for species in genus.names}
        assert len(plain) == 1


def test_images_differ_in_brightness_and_contrast():
    images = [draw("Whippet", seed).image for seed in range(40)]
    means, spreads = [image.mean() for image in images], [image.std() for image in images]
    assert max(means) - min(means) > 60 and max(spreads) > 1.8 * min(spreads)
