"""A table of architectures: the line that the user types, the layer found, and the distance from pytorch-grad-cam.

Both see the same network, image, class and layer. pytorch-grad-cam gives weights and activations; the map is then made
in this package's order: weighted sum, upsample, clip at 0, min-max. (pytorch-grad-cam itself clips before it upsamples,
which changes the map where the sum has both signs.) Weights are random with a fixed seed, except for DeiT, whose
trained weights are used if the folder `$ISCAM_MODELS` has them.

`python tests/test_architectures.py` writes the table to data/results/architectures.csv.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch
import torchvision
import transformers
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.models import GoogLeNetOutputs

import iscam
from helpers.grad_cam import finished
from helpers.repository import ROOT

TABLE = ROOT / "data" / "results" / "architectures.csv"

#: Largest difference of maps in [0, 1] that rounding explains.
TOLERANCE = 1e-5


class TrainingStyle(nn.Module):
    """GoogLeNet that returns its logits and those of its auxiliary heads, as it does in training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> GoogLeNetOutputs:
        logits = self.model(x)
        auxiliary = self.model.aux1(torch.zeros(len(x), 512, 14, 14))
        return GoogLeNetOutputs(logits, auxiliary, auxiliary)


def nchw(a: Tensor) -> Tensor:
    return a


def nhwc(a: Tensor) -> Tensor:
    return a.permute(0, 3, 1, 2)


def tokens(a: Tensor) -> Tensor:
    """A square grid of tokens after one class token."""
    side = int((a.shape[1] - 1) ** 0.5)
    return a[:, 1:].transpose(1, 2).unflatten(2, (side, side))


class Architecture(NamedTuple):
    """One row: the line that the user types, and how pytorch-grad-cam must read the layer that is found."""

    library: str
    code: str
    reshape: Callable[[Tensor], Tensor] = nchw


GOOGLENET = "iscam.Network(TrainingStyle(torchvision.models.googlenet(aux_logits=True, init_weights=False)))"

ARCHITECTURES = {
    "ResNet-50": Architecture("torchvision", 'iscam.load_model("torchvision/resnet50")'),
    "DenseNet-121": Architecture("torchvision", 'iscam.load_model("torchvision/densenet121")'),
    "EfficientNet-B0": Architecture("torchvision", 'iscam.load_model("torchvision/efficientnet_b0")'),
    "MobileNetV3 small": Architecture("torchvision", 'iscam.load_model("torchvision/mobilenet_v3_small")'),
    "ConvNeXt tiny": Architecture("torchvision", 'iscam.load_model("torchvision/convnext_tiny")'),
    "RegNetY 400MF": Architecture("torchvision", 'iscam.load_model("torchvision/regnet_y_400mf")'),
    "Inception v3": Architecture("torchvision", 'iscam.load_model("torchvision/inception_v3")'),
    "GoogLeNet, training-style output": Architecture("torchvision", GOOGLENET),
    "Swin tiny": Architecture("torchvision", 'iscam.load_model("torchvision/swin_t")'),
    "ViT-B/16": Architecture("torchvision", 'iscam.load_model("torchvision/vit_b_16")', tokens),
    "ResNet-18": Architecture("timm", 'iscam.load_model("timm/resnet18")'),
    "ConvNeXt atto": Architecture("timm", 'iscam.load_model("timm/convnext_atto")'),
    "ViT tiny": Architecture("timm", 'iscam.load_model("timm/vit_tiny_patch16_224")', tokens),
    "DeiT tiny": Architecture("timm", 'iscam.load_model("timm/deit_tiny_patch16_224")', tokens),
    "Swin tiny, channels last": Architecture("timm", 'iscam.load_model("timm/swin_tiny_patch4_window7_224")', nhwc),
    "ResNet-50 from a configuration": Architecture(
        "Hugging Face", "iscam.Network(transformers.ResNetForImageClassification(transformers.ResNetConfig()))"
    ),
    "ViT-B/16 from a configuration": Architecture(
        "Hugging Face", "iscam.Network(transformers.ViTForImageClassification(transformers.ViTConfig()))", tokens
    ),
}


def network(name: str) -> iscam.Network:
    """Run the line, with random weights instead of trained ones, which would need a download."""
    code = ARCHITECTURES[name].code
    weights = trained(name)
    arguments = f", weights={str(weights) if weights is None else repr(str(weights))})"
    code = code[:-1] + arguments if code.startswith("iscam.load_model") else code
    names = {"iscam": iscam, "torchvision": torchvision, "transformers": transformers, "TrainingStyle": TrainingStyle}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = eval(code, names)
        for parameter in net.model.parameters():
            if not parameter.any():  # a new head of zeros would give blank maps
                nn.init.normal_(parameter, std=0.02)
        calibrate(net)
    return net


@torch.no_grad()
def calibrate(net: iscam.Network) -> None:
    """Set the statistics of batch normalisation from four images.

    Without them, the deep layers of a random network hardly depend on the image, and its maps are mostly rounding.
    """
    norms = [module for module in net.model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
        norm.reset_running_stats()
    images = iscam.load_images("menagerie", count=4, transform=net.transform)
    if norms:
        net.model.train()
        net.model(torch.stack([item.image for item in images]))
    net.model.eval()


def trained(name: str) -> Path | None:
    """The file of trained weights, if there is one."""
    file = Path(os.environ.get("ISCAM_MODELS", "")) / "deit_tiny_patch16_224-timm-names.safetensors"
    return file if name == "DeiT tiny" and file.is_file() else None


class Logits(nn.Module):
    """The network's logits as a tensor, which pytorch-grad-cam needs."""

    def __init__(self, net: iscam.Network) -> None:
        super().__init__()
        self.net, self.model = net, net.model

    def forward(self, x: Tensor) -> Tensor:
        return self.net.read_output(self.model(x), len(x))


def peer_map(net: iscam.Network, image: Tensor, target: int, reshape: Callable[[Tensor], Tensor]) -> Tensor:
    """A map in this package's order from the weights and activations of pytorch-grad-cam."""
    layer, targets = net.model.get_submodule(net.layer), [ClassifierOutputTarget(target)]
    with GradCAM(model=Logits(net), target_layers=[layer], reshape_transform=reshape) as cam:
        # Copy the output of the layer: DenseNet's in-place ReLU would overwrite the activations that the peer keeps.
        copying = layer.register_forward_hook(lambda module, args, output: output.clone())
        try:
            cam(input_tensor=image[None].clone().requires_grad_(), targets=targets)
        finally:
            copying.remove()
        (activations,), (gradients,) = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
        total = cam.get_cam_image(image[None], layer, targets, activations.numpy(), gradients.detach().numpy())
    net.model.zero_grad()
    return finished(torch.from_numpy(total)[None], image)


@cache
def row(name: str) -> dict[str, object]:
    """The row of the table for one architecture."""
    architecture, net = ARCHITECTURES[name], network(name)
    image = iscam.load_images("menagerie", count=1, transform=net.transform)[0].image
    logits = net(image[None])[0]
    for target in logits.argsort(descending=True)[:10].tolist():  # the first class whose map is not blank
        expected = peer_map(net, image, target, architecture.reshape)
        if expected.any():
            break
    assert expected.max() == 1, "every map of the peer is blank"
    found = iscam.explain(net, image[None], torch.tensor([target]), method="grad_cam")[0]
    record = iscam.record.forward_record(net, image, target)
    channels, height, width = record.activations.shape
    return {
        "library": architecture.library,
        "architecture": name,
        "weights": "random" if trained(name) is None else "trained",
        "code": architecture.code,
        "layer": net.layer,
        "channels": channels,
        "size": f"{height}x{width}",
        "difference": float((found - expected).abs().max()),
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_grad_cam_agrees_with_the_peer(name):
    found = row(name)
    assert found["difference"] <= TOLERANCE
    recorded = pd.read_csv(TABLE).set_index("architecture").loc[name]
    for column in ("library", "code", "layer", "channels", "size"):
        assert found[column] == recorded[column]
    assert abs(found["difference"] - recorded["difference"]) <= TOLERANCE


def test_table_lists_every_architecture():
    assert list(pd.read_csv(TABLE)["architecture"]) == list(ARCHITECTURES)
    assert len(ARCHITECTURES) >= 16


if __name__ == "__main__":
    torch.set_num_threads(1)
    pd.DataFrame([row(name) for name in ARCHITECTURES]).to_csv(TABLE, index=False, float_format="%.1e")
