"""Agreement with torch-cam and pytorch-grad-cam for the methods that they compute in the same way.

With torch-cam: Score-CAM, IS-CAM and SS-CAM. With both: Layer-CAM and XGrad-CAM.
With pytorch-grad-cam: Ablation-CAM.

torch-cam scales masks before upsampling, scores logits and takes a softmax across channels. Its baseline, the logit of
the complete image, cancels in that softmax. It returns maps at the resolution of the layer. Its Grad-CAM++ is no
reference, because its weights leave out the factors of Grad-CAM++.
"""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam import methods as torchcam
from torchvision import models

import iscam
from helpers import reference
from helpers.images import array, smooth_images
from iscam.maps import weighted_sum
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


# --------------------------------------------------------------------------------------------------- behind ReLU layers

#: Our method -> the classes of torch-cam (or None) and pytorch-grad-cam.
PEERS = {
    "layer_cam": (torchcam.LayerCAM, pytorch_grad_cam.LayerCAM),
    "xgrad_cam": (torchcam.XGradCAM, pytorch_grad_cam.XGradCAM),
    "ablation_cam": (None, pytorch_grad_cam.AblationCAM),
}

#: Networks and layers whose output is not negative. Both libraries return maps at the resolution of the layer, after
#: the ReLU. Ours is upsampled before the ReLU, so the maps are compared at the resolution of the layer.
RELU_LAYERS = [("squeezenet1_0", "features.3"), ("squeezenet1_0", "features"), ("resnet18", "layer2")]


def torchcam_gradient_map(model: nn.Module, layer: str, image: Tensor, target: int, peer: type) -> np.ndarray:
    with peer(model, layer) as extractor:
        scores = model(image[None].requires_grad_())
        (found,) = extractor(target, scores, normalized=False)
    return array(found[0])


def pytorch_grad_cam_map(model: nn.Module, layer: str, image: Tensor, target: int, peer: type) -> np.ndarray:
    """Return the map of pytorch-grad-cam before its resizing and scaling."""
    module, targets = model.get_submodule(layer), [ClassifierOutputTarget(target)]
    with peer(model, [module]) as cam:
        cam(image[None], targets)
        stored = cam.activations_and_grads
        activations, *gradients = (list(map(array, each)) for each in (stored.activations, stored.gradients) if each)
        gradient = gradients[0][0] if gradients else None
        found = cam.get_cam_image(image[None], module, targets, activations[0].astype("f4"), gradient, False)
    return np.maximum(found[0], 0)


@pytest.mark.parametrize(("name", "layer"), RELU_LAYERS)
@pytest.mark.parametrize("method", PEERS)
def test_maps_of_relu_layers_agree(method, name, layer):
    model, image = random_model(name), smooth_images(1, 64, 64, seed=4)[0]
    target = int(model(image[None]).argmax())
    record = forward_record(iscam.Network(model, layer), image, target)
    found = array(weighted_sum(iscam.METHODS[method](record), record.activations).relu())
    first, second = PEERS[method]
    expected = {"pytorch-grad-cam": pytorch_grad_cam_map(model, layer, image, target, second)}
    if first:
        expected["torch-cam"] = torchcam_gradient_map(model, layer, image, target, first)
    assert np.ptp(found) > 0
    for library, peer in expected.items():
        np.testing.assert_allclose(found / found.max(), peer / peer.max(), atol=1e-5, err_msg=library)
