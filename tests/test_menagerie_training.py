"""The images and targets of the menagerie's training, and what the explained layers see."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import iscam
from iscam.menagerie import SPECIES, training_images
from iscam.menagerie.animals import TABLE, parts_of
from iscam.menagerie.networks import NETWORKS, build
from iscam.record import forward_record

LAYER_OUTPUTS = {
    "menagerie/vgg": (64, 14, 14),
    "menagerie/resnet": (64, 14, 14),
    "menagerie/squeezenet": (64, 14, 14),
}
CLASSES = len(SPECIES)


def test_training_images_are_balanced():
    numbers = range(40 * (CLASSES + 1))
    labels = [training_images.label("training", number) for number in numbers]
    assert set(Counter(labels).values()) == {40} and labels.count(None) == 40
    removed = [training_images.left_out("training", n) for n, k in zip(numbers, labels, strict=True) if k is not None]
    assert 0.45 < sum(not parts for parts in removed) / len(removed) < 0.7


@pytest.mark.parametrize("number", [0, 1, 7])
def test_part_cells_add_up_to_the_visible_share(number):
    species, parts = SPECIES[number], training_images.left_out("training", number)
    shares = training_images.part_cells(number).sum((1, 2)).astype(float)
    for share, part in zip(shares, ("body", *parts_of(species)), strict=False):
        if part in parts:
            assert share == 0
        elif part != "body":  # other parts may have hidden some of the body
            assert share >= 0.99


def test_target_is_the_posterior_of_independent_parts():
    """The formula of `training_images`, written out for one image whose tail is hidden and whose legs are half so."""
    number = SPECIES.index("Basenji")
    parts = ("body", *parts_of("Basenji"))
    visible = torch.tensor([[0.0 if part == "tail" else 0.5 if part == "legs" else 1.0 for part in parts]])
    visible = torch.nn.functional.pad(visible, (0, training_images.SLOTS - len(parts)))
    score = {}
    for other in SPECIES:
        known = {"body": TABLE[other][0], **TABLE[other][1]}
        own = {"body": TABLE["Basenji"][0], **TABLE["Basenji"][1]}
        counts = [0 if part == "tail" else 7 / 27 if part == "legs" else 1 for part in parts]  # x = 1/3: x^2 (3 - 2 x)
        weight = {"ears": 3.2, "coat": 2.3, "tail": 1.4}  # the parts that vary among square dogs; the others count 0.6
        score[other] = sum(
            count * weight.get(part, 0.6)
            for count, part in zip(counts, parts, strict=True)
            if known.get(part) == own[part]
        )
    weights = torch.tensor([score[other] for other in SPECIES]).exp()
    found = training_images.targets(torch.tensor([number]), visible)
    torch.testing.assert_close(found[0], weights / weights.sum())


def test_hidden_animal_belongs_to_every_species_alike():
    last = torch.tensor([0, CLASSES])
    assert not training_images.part_cells(CLASSES).any()
    found = training_images.targets(last, torch.zeros(2, training_images.SLOTS))
    torch.testing.assert_close(found, torch.full((2, CLASSES), 1 / CLASSES))


def test_moved_images_and_cells_stay_together():
    random = torch.Generator().manual_seed(0)
    images = np.zeros((1, 224, 224, 3), np.uint8)
    images[0, 80:96, 40:48] = 255
    cells = images[:, ::8, ::8, 0][:, None].astype(np.float16)
    for _ in range(20):
        shown, parts = training_images.moved(images, cells, random)
        assert shown.shape == images.shape and (shown[:, ::8, ::8, 0] == parts[:, 0]).all()


def test_soft_masks_hide_the_requested_share():
    masks = training_images.soft_masks(400, 0.4, torch.Generator().manual_seed(0))
    assert masks.shape == (400, 1, 224, 224) and masks.min() >= 0 and masks.max() <= 1
    assert 0.3 < (masks.amin((1, 2, 3)) < 1).double().mean() < 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_of_the_explained_layer_are_centred(name):
    """A network sees the mirrored image as it sees the image: the windows of its layers are symmetric."""
    model, layer, *_ = build(name)
    for module in model.modules():  # mirrored kernels, and none that depends on the direction
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(2, 3)) / 2
    net = iscam.Network(model.eval(), layer)
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert forward_record(net, image).activations.shape == LAYER_OUTPUTS[name]
    turned = forward_record(net, image.flip(1, 2)).activations.flip(1, 2)
    torch.testing.assert_close(turned, forward_record(net, image).activations, rtol=1e-4, atol=1e-5)
