"""The menagerie's networks: small, accurate on unseen drawings, and reproduced by their training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import iscam
from iscam.menagerie import SPECIES, draw, train
from iscam.menagerie.networks import NETWORKS, Smoothing, build
from iscam.menagerie.train import PLANS
from iscam.menagerie.training_images import SEEDS

UNSEEN = 5_000_000
CLASSES = len(SPECIES)
TINY = train.Plan(rate=1e-3, epochs=2, images=50, validated=24, tested=24, batch=25)


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
    model, _, categories, weights = build(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, CLASSES) and categories == SPECIES
    assert counter.get_total_flops() / 2 <= 0.15e9
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    assert weights.stat().st_size <= 2_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_random_weights_are_fixed_and_keep_the_global_state(name):
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
    assert (found.argmax(1) == torch.arange(96) % CLASSES).double().mean() >= 0.95
    assert 0.75 <= found.amax(1).median() <= 0.99


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_networks_are_unsure_without_an_animal(name):
    scenes = np.stack([draw(SPECIES[0], UNSEEN + n, without="animal").image for n in range(20)])
    net = iscam.load_model(name)
    assert train.probabilities(net.model, scenes, "cpu").amax(1).mean() < 0.3
    assert net(torch.zeros(1, 3, 224, 224)).softmax(1).max() < 0.5


def test_smoothing_takes_the_mean_of_neighbours_after_training_only():
    smoothing, point = Smoothing(), torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1
    assert torch.equal(smoothing.train()(point), point)
    found = smoothing.eval()(point)[0, 0]
    assert found[2:7, 2:7].allclose(torch.tensor(1 / 25)) and found.sum().isclose(torch.tensor(1.0))
    assert smoothing(torch.ones(1, 1, 9, 9)).allclose(torch.tensor(1.0)), "the border is not darker"


def test_training_input_equals_the_canonical_transform(unseen):
    from PIL import Image

    expected = iscam.transforms.canonical_transform(Image.fromarray(unseen[0]))
    torch.testing.assert_close(train.normalised(unseen[:1], "cpu")[0], expected)


def test_training_seeds_differ_from_all_others():
    most = max(plan.images for plan in PLANS.values())
    assert SEEDS["training"] + most <= min(seed for kind, seed in SEEDS.items() if kind != "training")


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
    assert list(figures) == [name] and figures[name]["parameters"]["plan"]["images"] == TINY.images
    assert figures[name]["command"] == f"python -m iscam.menagerie.train {name}", "no folders of this machine"
    monkeypatch.setattr(train.Training, "run", None)  # would fail if a finished network were trained again
    train.train(name, TINY, cache / "again", results, workers=1)


def killed_in_second_epoch(epoch):
    def killed(self, number: int, *images: np.ndarray) -> Tensor:
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number, *images)

    return killed


def test_unknown_network_lists_valid_ones(capsys):
    with pytest.raises(SystemExit):
        train.main(["menagerie/alexnet"])
    assert "menagerie/squeezenet" in capsys.readouterr().err
