"""Agreement with torch-cam for the methods that it computes in the same way: Score-CAM, IS-CAM and SS-CAM.

torch-cam scales masks before upsampling, scores logits and takes a softmax across channels. Its baseline, the logit of
the complete image, cancels in that softmax. It returns maps at the resolution of the layer. Its Grad-CAM++ is no
reference, because its weights leave out the factors of Grad-CAM++.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchcam import methods as torchcam
from torchvision import models

import iscam
from helpers import reference
from helpers.images import array, smooth_images
from iscam.record import forward_record

#: Options with which our score methods compute the same as torch-cam.
TORCHCAM_OPTIONS = {"score": "logit", "channel_softmax": True, "normalise": "layer"}

#: Name -> torch-cam's class and options, our method and options.
PAIRS = {
    "score_cam": (torchcam.ScoreCAM, {}, "score_cam", {}),
    "is_cam 3": (torchcam.ISCAM, {"num_samples": 3}, "is_cam", {"steps": 3}),
    "is_cam 10": (torchcam.ISCAM, {"num_samples": 10}, "is_cam", {"steps": 10}),
    "ss_cam": (torchcam.SSCAM, {"num_samples": 2, "std": 1e-12}, "ss_cam", {"samples": 2, "sigma": 0.0}),
}

#: Network, layer, side of the image, and pairs to compare.
CASES = [
    *(
        (name, layer, 44, pair)
        for name, layer in (("squeezenet1_0", "features.3"), ("resnet18", "layer1"))
        for pair in PAIRS
    ),
    ("squeezenet1_0", "features", 64, "score_cam"),
    ("resnet18", "layer4", 64, "score_cam"),
]


def random_model(name: str) -> nn.Module:
    """A random network whose logits differ enough for the softmax across channels to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=20).eval()
    with torch.no_grad():
        head = model.classifier[1] if name == "squeezenet1_0" else model.fc
        head.weight.mul_(30)
    return model


def torchcam_map(model: nn.Module, layer: str, image: Tensor, target: int, method: type, options: dict) -> np.ndarray:
    with method(model, layer, **options) as extractor:
        with torch.inference_mode():
            model(image[None])
        (found,) = extractor(class_idx=target, normalized=False)
    return array(found[0])


@pytest.mark.parametrize(("name", "layer", "side", "pair"), CASES)
def test_maps_agree_with_torchcam(name, layer, side, pair):
    model = random_model(name)
    peer, peer_options, method, options = PAIRS[pair]
    image = smooth_images(1, side, side, seed=4)[0]
    target = int(model(image[None]).argmax())
    low = torchcam_map(model, layer, image, target, peer, peer_options)
    expected = reference.min_max(reference.upsample(low, side, side))
    net = iscam.Network(model, layer)
    found = iscam.explain(net, image[None], torch.tensor([target]), method, **options, **TORCHCAM_OPTIONS)[0]
    assert np.ptp(expected) == 1
    np.testing.assert_allclose(array(found), expected, atol=1e-5)


def test_channel_softmax_matters_in_this_comparison():
    """The weights are far from equal. Otherwise the agreement would show little."""
    net, image = iscam.Network(random_model("squeezenet1_0"), "features.3"), smooth_images(1, 44, 44, seed=4)[0]
    weights = iscam.METHODS["score_cam"](forward_record(net, image), **TORCHCAM_OPTIONS)
    positive = weights[weights > 0]
    assert positive.max() > 1.5 * positive.min()
