"""Agreement with a peer, torch-cam 0.5, where it computes the same.

It scales masks before upsampling, takes logits and a softmax across channels; its baseline, the whole image's logit,
cancels in that softmax. It returns the map at the layer's resolution. Its GradCAMpp is no oracle: its weights leave out
the factors of Grad-CAM++.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchcam import methods as torchcam
from torchvision import models

import iscam
from helpers import reference
from helpers.images import array, smooth_images

ASK = {"score": "logit", "channel_softmax": True, "normalise": "layer"}
PAIRS = {
    "score_cam": (torchcam.ScoreCAM, {}, {}),
    "is_cam 3": (torchcam.ISCAM, {"num_samples": 3}, {"steps": 3}),
    "is_cam 10": (torchcam.ISCAM, {"num_samples": 10}, {"steps": 10}),
    "ss_cam": (torchcam.SSCAM, {"num_samples": 2, "std": 1e-12}, {"samples": 2, "sigma": 0.0}),
}


def wide_awake(name: str) -> torch.nn.Module:
    """A random network whose logits differ enough for the softmax across channels to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=20).eval()
    with torch.no_grad():
        head = model.classifier[1] if name == "squeezenet1_0" else model.fc
        head.weight.mul_(30)
    return model


def theirs(model, layer: str, image, target: int, peer, options) -> np.ndarray:
    with peer(model, layer, **options) as extractor:
        with torch.inference_mode():
            model(image[None])
        (map,) = extractor(class_idx=target, normalized=False)
    return array(map[0])


@pytest.mark.parametrize(
    ("name", "layer", "pair"),
    [(name, layer, pair) for name, layer in (("squeezenet1_0", "features.3"), ("resnet18", "layer1")) for pair in PAIRS]
    + [("squeezenet1_0", "features", "score_cam"), ("resnet18", "layer4", "score_cam")],
)
def test_torchcam(name, layer, pair):
    model = wide_awake(name)
    peer, their_options, our_options = PAIRS[pair]
    size = 64 if layer in ("features", "layer4") else 44
    image = smooth_images(1, size, size, seed=4)[0]
    target = int(model(image[None]).argmax())
    low = theirs(model, layer, image, target, peer, their_options)
    expected = reference.min_max(reference.upsample(low, size, size))
    net = iscam.Network(model, layer)
    found = iscam.explain(net, image[None], torch.tensor([target]), pair.split()[0], **our_options, **ASK)[0]
    assert np.ptp(expected) == 1
    np.testing.assert_allclose(array(found), expected, atol=1e-5)


def test_the_softmax_matters_in_this_comparison():
    """Otherwise the parity would say little: the weights are far from equal."""
    from iscam.record import forward_record

    view = forward_record(iscam.Network(wide_awake("squeezenet1_0"), "features.3"), smooth_images(1, 44, 44, seed=4)[0])
    weights = iscam.METHODS["score_cam"](view, **ASK)
    live = weights[weights > 0]
    assert live.max() > 1.5 * live.min()
