"""The networks of both menageries: small and reproduced by their training; the trained ones are accurate."""

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
from iscam import menagerie_next
from iscam.menagerie import RELATIVES, SPECIES, draw, networks, train, training_images
from iscam.menagerie.networks import NETWORKS
from iscam.menagerie_next import networks as next_networks
from iscam.menagerie_next import train as next_train
from iscam.menagerie_next import training_images as next_training_images
from iscam.record import forward_record

LAYER_OUTPUTS = {
    "menagerie/vgg": (64, 7, 7),
    "menagerie/resnet": (64, 7, 7),
    "menagerie/squeezenet": (64, 13, 13),
}
UNSEEN = 5_000_000
TINY = train.Plan(rate=1e-3, epochs=2, images=20, validated=10, tested=10, batch=10)
NEXT_TINY = next_train.Plan(rate=1e-3, epochs=2, images=50, validated=24, tested=24, batch=25)


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    """Images (100, 224, 224, 3) of all species in turn, from seeds that training did not use."""
    return np.stack([draw(SPECIES[n % 10], UNSEEN + n).image for n in range(100)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("module", "species", "most"), [(networks, SPECIES, 0.1e9), (next_networks, menagerie_next.SPECIES, 0.15e9)]
)
def test_networks_are_small(name, module, species, most):
    model, _, categories, _ = module.build(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, len(species)) and categories == species
    assert counter.get_total_flops() / 2 <= most
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_weights_are_small(name):
    assert networks.build(name)[3].stat().st_size <= 2_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_explained_layer_has_the_documented_shape(name):
    record = forward_record(iscam.load_model(name), torch.zeros(3, 224, 224))
    assert record.activations.shape == LAYER_OUTPUTS[name]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("build", [networks.build, next_networks.build])
def test_random_weights_are_fixed_and_keep_the_global_state(name, build):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = build(name)[0].state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    second = build(name)[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_networks_classify_unseen_drawings(name, unseen):
    net = iscam.load_model(name)
    found = train.probabilities(net.model, unseen, "cpu")
    assert net.dtype == torch.float32
    assert (found.argmax(1) == torch.arange(100) % 10).double().mean() >= 0.95
    assert 0.8 <= found.amax(1).median() <= 0.99


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_networks_are_unsure_without_an_animal(name):
    scenes = np.stack([draw(SPECIES[0], UNSEEN + n, without="animal").image for n in range(20)])
    net = iscam.load_model(name)
    assert train.probabilities(net.model, scenes, "cpu").amax(1).mean() < 0.3
    assert net(torch.zeros(1, 3, 224, 224)).softmax(1).max() < 0.5


def test_training_input_equals_the_canonical_transform(unseen):
    from PIL import Image

    expected = iscam.transforms.canonical_transform(Image.fromarray(unseen[0]))
    torch.testing.assert_close(train.normalised(unseen[:1], "cpu")[0], expected)


def test_training_images_are_balanced_and_distinguishable():
    numbers = range(2100)
    labels = [training_images.label("training", number) for number in numbers]
    assert set(Counter(labels).values()) == {200, 100} and labels.count(-1) == 100
    assert torch.allclose(training_images.targets(21).sum(1), torch.ones(21))
    missing = [
        (SPECIES[k], training_images.left_out("training", n)) for n, k in zip(numbers, labels, strict=True) if k >= 0
    ]
    assert 0.45 < sum(not parts for _, parts in missing) / len(missing) < 0.65
    assert all(set(RELATIVES[name][1]) - set(parts) for name, parts in missing if name in RELATIVES)


@pytest.mark.parametrize(
    ("plans", "seeds"), [(train.PLANS, training_images.SEEDS), (next_train.PLANS, next_training_images.SEEDS)]
)
def test_training_seeds_differ_from_all_others(plans, seeds):
    most = max(plan.images for plan in plans.values())
    used = range(seeds["training"], seeds["training"] + most)
    assert not any(seed in used for kind, seed in seeds.items() if kind != "training")
    assert used.stop <= min(seed for kind, seed in seeds.items() if kind != "training")


def test_soft_masks_hide_the_requested_share():
    masks = training_images.soft_masks(400, 0.4, torch.Generator().manual_seed(0))
    assert masks.shape == (400, 1, 224, 224) and masks.min() >= 0 and masks.max() <= 1
    assert 0.3 < (masks.amin((1, 2, 3)) < 1).double().mean() < 0.5


@pytest.mark.parametrize(("module", "plan"), [(train, TINY), (next_train, NEXT_TINY)])
def test_killed_training_resumes_to_the_same_weights(cache, monkeypatch, module, plan):
    name, results = "menagerie/squeezenet", cache / "results"
    module.train(name, plan, cache / "uninterrupted", results, workers=1)
    uninterrupted = (cache / "uninterrupted" / "squeezenet.safetensors").read_bytes()
    log = pd.read_csv(results / "menagerie-training.csv").drop(columns="seconds")
    monkeypatch.setenv("ISCAM_CACHE", str(cache / "other"))

    epoch = module.Training.epoch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Training, "epoch", killed_in_second_epoch(epoch))
        module.train(name, plan, cache / "again", results, workers=1)
    module.train(name, plan, cache / "again", results, workers=1)
    assert (cache / "again" / "squeezenet.safetensors").read_bytes() == uninterrupted
    pd.testing.assert_frame_equal(pd.read_csv(results / "menagerie-training.csv").drop(columns="seconds"), log)
    assert log.epoch.tolist() == [1, 2]

    figures = json.loads((results / "menagerie-training.json").read_text())
    assert list(figures) == [name] and figures[name]["parameters"]["plan"]["images"] == plan.images
    monkeypatch.setattr(module.Training, "run", None)  # would fail if a finished network were trained again
    module.train(name, plan, cache / "again", results, workers=1)


def killed_in_second_epoch(epoch):
    def killed(self, number: int, *images: np.ndarray) -> Tensor:
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number, *images)

    return killed


@pytest.mark.parametrize("module", [train, next_train])
def test_unknown_network_lists_valid_ones(capsys, module):
    with pytest.raises(SystemExit):
        module.main(["menagerie/alexnet"])
    assert "menagerie/squeezenet" in capsys.readouterr().err
