"""The next menagerie's networks and their training. They are not trained yet."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import iscam
from iscam.menagerie_next import SPECIES, draw, train, training_images
from iscam.menagerie_next.animals import TABLE, parts_of
from iscam.menagerie_next.networks import NETWORKS, build
from iscam.record import forward_record

LAYER_OUTPUTS = {
    "menagerie/vgg": (64, 7, 7),
    "menagerie/resnet": (64, 7, 7),
    "menagerie/squeezenet": (64, 14, 14),
}
UNSEEN = 5_000_000
TINY = train.Plan(rate=1e-3, epochs=2, images=50, validated=24, tested=24, batch=25)
CLASSES = len(SPECIES)


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    """Images (96, 224, 224, 3) of all species in turn, from seeds that training did not use."""
    return np.stack([draw(SPECIES[n % CLASSES], UNSEEN + n).image for n in range(96)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_small(name):
    model, _, categories, _ = build(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, CLASSES) and categories == SPECIES
    assert counter.get_total_flops() / 2 <= 0.15e9
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_random_weights_are_fixed_and_keep_the_global_state(name):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = build(name)[0].state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    second = build(name)[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_training_input_equals_the_canonical_transform(unseen):
    from PIL import Image

    expected = iscam.transforms.canonical_transform(Image.fromarray(unseen[0]))
    torch.testing.assert_close(train.normalised(unseen[:1], "cpu")[0], expected)


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
            assert share == pytest.approx(1, abs=0.01) or share > 1


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
        score[other] = sum(c * (known.get(part) == own[part]) for c, part in zip(counts, parts, strict=True))
    weights = torch.tensor([training_images.EVIDENCE * score[other] for other in SPECIES]).exp()
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


def test_training_seeds_differ_from_all_others():
    most = max(plan.images for plan in train.PLANS.values())
    used = range(training_images.SEEDS["training"], training_images.SEEDS["training"] + most)
    assert not any(seed in used for kind, seed in training_images.SEEDS.items() if kind != "training")
    assert used.stop <= min(seed for kind, seed in training_images.SEEDS.items() if kind != "training")


def test_soft_masks_hide_the_requested_share():
    masks = training_images.soft_masks(400, 0.4, torch.Generator().manual_seed(0))
    assert masks.shape == (400, 1, 224, 224) and masks.min() >= 0 and masks.max() <= 1
    assert 0.3 < (masks.amin((1, 2, 3)) < 1).double().mean() < 0.5


def test_killed_training_resumes_to_the_same_weights(cache, monkeypatch):
    name, results = "menagerie/squeezenet", cache / "results"
    train.train(name, TINY, cache / "uninterrupted", results, workers=1)
    uninterrupted = (cache / "uninterrupted" / "squeezenet.safetensors").read_bytes()
    log = pd.read_csv(results / "menagerie-training.csv").drop(columns="seconds")
    monkeypatch.setenv("ISCAM_CACHE", str(cache / "other"))

    epoch = train.Training.epoch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.Training, "epoch", killed_in_second_epoch(epoch))
        train.train(name, TINY, cache / "again", results, workers=1)
    train.train(name, TINY, cache / "again", results, workers=1)
    assert (cache / "again" / "squeezenet.safetensors").read_bytes() == uninterrupted
    pd.testing.assert_frame_equal(pd.read_csv(results / "menagerie-training.csv").drop(columns="seconds"), log)
    assert log.epoch.tolist() == [1, 2]

    figures = json.loads((results / "menagerie-training.json").read_text())
    assert list(figures) == [name] and figures[name]["parameters"]["plan"]["images"] == 50
    monkeypatch.setattr(train.Training, "run", None)  # would fail if a finished network were trained again
    train.train(name, TINY, cache / "again", results, workers=1)


def killed_in_second_epoch(epoch):
    def killed(self, number: int, images: np.ndarray, cells: np.ndarray) -> Tensor:
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number, images, cells)

    return killed


def test_unknown_network_lists_valid_ones(capsys):
    with pytest.raises(SystemExit):
        train.main(["menagerie/alexnet"])
    assert "menagerie/squeezenet" in capsys.readouterr().err


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_of_the_explained_layer_are_centred(name):
    """A network sees the mirrored image as it sees the image: the windows of its layers are symmetric."""
    model, layer, *_ = build(name)
    for module in model.modules():  # mirrored kernels, and none that depends on the direction
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(2, 3)) / 2
    net = iscam.Network(model.eval(), layer)
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0))
    turned = forward_record(net, image.flip(1, 2)).activations.flip(1, 2)
    torch.testing.assert_close(turned, forward_record(net, image).activations, rtol=1e-4, atol=1e-5)
