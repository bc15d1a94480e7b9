"""The part of a network behind the explained layer: logits and scores of given activations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import iscam
from helpers.images import smooth_images
from helpers.networks import pooled
from iscam.engine.behind import activation_scores, runs_on_one_image
from iscam.engine.scoring import Scoring
from iscam.record import forward_record, logits_with

IMAGE = smooth_images(1, 16, 16)[0]


class Chain(nn.Module):
    """Two convolutions and a head. `join` combines their outputs, and `flat` prepares the input of the head."""

    def __init__(self, join=lambda a, b: b, flat=lambda x: x.mean((2, 3)), width=4):
        super().__init__()
        self.first, self.layer, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, padding=1), None
        self.join, self.flat = join, flat
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        return self.head(self.flat(self.join(a, self.layer(a))))


class Reused(Chain):
    """The layer runs twice, and the head reads the sum of both outputs."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.layer(self.first(x).relu())
        return self.head(self.flat(a + self.layer(a.relu())))


def in_place(a: Tensor, b: Tensor) -> Tensor:
    return b.relu_().add_(a)


#: Name -> network, and whether one image before the layer is enough.
NETWORKS = {
    "chain": (Chain, True),
    "residual": (lambda: Chain(lambda a, b: a + b), True),
    "residual, in place": (lambda: Chain(in_place), True),
    "residual, in place on the other branch": (lambda: Chain(lambda a, b: a.clone().add_(b)), False),
    "concatenated": (lambda: Chain(lambda a, b: torch.cat([a, b], 1), width=8), False),
    "batch size from before the layer": (
        lambda: Chain(lambda a, b: b.mean((2, 3)).reshape(len(a), -1), nn.Identity()),
        False,
    ),
    "the layer runs twice": (Reused, True),
}


def build(name: str) -> tuple[nn.Module, bool]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        make, one_image = NETWORKS[name]
        return make().eval(), one_image


def literal_logits(model: nn.Module, activations: Tensor) -> Tensor:
    """Compute the logits of one image and activations (K, h, w) without hooks."""
    a = model.first(IMAGE[None])
    if isinstance(model, Reused):
        return model.head(model.flat(model.layer(a.relu()) + activations[None]))[0]
    return model.head(model.flat(model.join(a, activations[None].clone())))[0]


def record_of(model: nn.Module, **options) -> iscam.ForwardRecord:
    return forward_record(iscam.Network(model, "layer", **options), IMAGE, 1)


@pytest.mark.filterwarnings("ignore:layer 'layer' runs 2 times")
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_part_behind_the_layer(name):
    model, one_image = build(name)
    record = record_of(model)
    activations = torch.randn(5, *record.activations.shape, generator=torch.Generator().manual_seed(0))
    before = activations.clone()
    with torch.no_grad():
        expected = torch.stack([literal_logits(model, each) for each in activations])
        torch.testing.assert_close(logits_with(record, activations), expected)
        torch.testing.assert_close(logits_with(record, record.activations[None])[0], record.logits)
    assert runs_on_one_image(record) is one_image
    scores = activation_scores(record, lambda span: activations[span.start : span.stop], 5, Scoring(batch_size=2))
    torch.testing.assert_close(scores, expected.softmax(1)[:, 1])
    assert torch.equal(activations, before)


def test_only_the_part_behind_the_layer_runs_on_the_batch():
    model, _ = build("residual")
    record, sizes = record_of(model), []
    hooks = [
        module.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
        for module in (model.first, model.head)
    ]
    activation_scores(record, lambda span: torch.zeros(len(span), 4, 7, 7), 70, Scoring())
    for hook in hooks:
        hook.remove()
    check, passes = sizes[:4], sizes[4:]
    assert check == [2, 2, 1, 2]
    assert passes == [1, 24, 1, 23, 1, 23]


@pytest.mark.parametrize("layout", ["nchw", lambda a: a[:, 1:3].flip(3)])
def test_a_function_as_layout_is_inverted(layout):
    """Values that the function does not select stay those of the image."""
    model, _ = build("residual")
    record = record_of(model, layout=layout)
    with torch.no_grad():
        output = model.layer(model.first(IMAGE[None]))[0]
        changed = record.activations * torch.rand(record.activations.shape)
        if callable(layout):
            output[1:3] = changed.flip(2)
        else:
            output = changed
        for activations in (changed[None], torch.stack([changed, record.activations])):
            torch.testing.assert_close(logits_with(record, activations)[0], literal_logits(model, output))


def test_gradients_reach_the_given_activations():
    record = record_of(build("residual")[0], layout=lambda a: a.flip(2))
    own = record.activations.detach()[None].requires_grad_()
    (found,) = torch.autograd.grad(logits_with(record, own)[0, 1], own)
    (expected,) = torch.autograd.grad(record.logits[1], record.activations)
    torch.testing.assert_close(found[0], expected)


def test_models_of_any_mode_and_precision_give_scores():
    model = pooled().double().train()
    record = forward_record(iscam.Network(model, "last"), smooth_images(1, 25, 31)[0].double(), 2)
    scores = activation_scores(
        record, lambda span: record.activations.detach().expand(len(span), -1, -1, -1), 3, Scoring()
    )
    torch.testing.assert_close(scores, record.logits.detach().softmax(0)[2].float().expand(3))
    assert model.training
