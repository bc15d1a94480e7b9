"""The small networks of the derivations page have the properties that the page uses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import iscam
from iscam.maps import active
from iscam.record import forward_record
from iscam.reproduction.toy_networks import (
    Split,
    constant,
    flipping,
    half_blind,
    image,
    rewritten,
    small,
    without_biases,
)

X = image()
BATCH = torch.stack([image(seed) for seed in range(1, 9)])


def test_image_and_small_are_fixed_by_the_seed():
    assert torch.equal(image(3), image(3))
    assert not torch.equal(image(3), image(4))
    assert torch.equal(small(3)(X[None]), small(3)(X[None]))
    assert not torch.equal(small(3)(X[None]), small(4)(X[None]))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"pooled": True}])
def test_small_has_six_active_channels_of_half_the_size(options):
    record = forward_record(small(**options), X)
    assert record.activations.shape == (6, 8, 8)
    assert active(record.activations).all()
    assert len(record.logits) == 5


def test_small_is_homogeneous_without_bias_only():
    free, net = small(bias=False), small()
    torch.testing.assert_close(free(3 * BATCH), 3 * free(BATCH))
    assert (net(3 * BATCH) - 3 * net(BATCH)).abs().max() > 0.1


def test_cam_is_defined_for_the_pooled_head_only():
    assert len(iscam.METHODS["cam"](forward_record(small(pooled=True), X))) == 6
    with pytest.raises(iscam.InputError):
        iscam.METHODS["cam"](forward_record(small(), X))


@pytest.mark.parametrize("row", range(4))
def test_flipping_changes_its_prediction_for_one_pixel(row):
    net, dot = flipping(), torch.zeros(2, 1, 4, 4)
    dot[1, 0, row, 3 - row] = 1
    assert net(dot).argmax(1).tolist() == [0, 1]
    assert forward_record(net, dot[1]).activations[0, row, 3 - row] == 0


def test_half_blind_ignores_the_right_half():
    net, x = half_blind(), torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    right, left = x.clone(), x.clone()
    right[..., 4:] += 1
    left[..., :4] += 1
    assert torch.equal(net(right), net(x))
    assert not torch.equal(net(left), net(x))
    assert torch.equal(forward_record(net, x[0]).activations.sum(0), x[0, 0])


def test_constant_returns_the_same_logits_for_all_images():
    net = small()
    logits = constant(net)(BATCH)
    assert (logits == logits[0]).all()
    assert net(BATCH).std(0).min() > 0, "the original network changed"


def test_rewritten_keeps_logits_and_changes_activations():
    net = small()
    other = rewritten(net, lambda a: 2 * a, lambda a: a / 2)
    assert torch.equal(other(BATCH), net(BATCH))
    assert torch.equal(forward_record(other, X).activations, 2 * forward_record(net, X).activations)


def test_without_biases_is_the_limit_for_large_inputs():
    torch.manual_seed(0)
    normalised = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).eval()
    nn.init.normal_(normalised[1].bias)
    nn.init.normal_(normalised[1].running_mean)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    for net in (small(), iscam.Network(Split(normalised, head), "features")):
        expected = net(1e5 * BATCH) / 1e5
        torch.testing.assert_close(without_biases(net)(BATCH), expected, atol=1e-4, rtol=1e-4)
        assert (net(BATCH) - expected).abs().max() > 0.01
