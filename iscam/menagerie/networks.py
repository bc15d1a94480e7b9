"""Three small networks that classify the menagerie's ten species, made of torchvision's own blocks.

Each belongs to one of the papers' families, with fewer channels: at most 0.1 billion multiply-adds per image of
224x224, and 64 channels in the explained layer. So a study of hundreds of images takes minutes on a CPU.
`iscam.menagerie.train` trains them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.squeezenet import Fire
from torchvision.models.vgg import make_layers

from iscam.menagerie.animals import SPECIES
from iscam.rng import seeded

#: Folder of the weights that the package ships.
WEIGHTS = Path(__file__).parent / "weights"


class SmallVGG(nn.Module):
    """VGG with an eighth of the channels: images (batch, 3, 224, 224) -> logits (batch, classes).

    Layer "features" returns (batch, 64, 7, 7). As in VGG, hidden layers follow it, so CAM is not defined.
    Batch normalisation (as in torchvision's vgg_bn) makes training from scratch reliable.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = make_layers([8, "M", 16, "M", 32, "M", 64, 64, "M", 64, 64, "M"], batch_norm=True)
        self.classifier = nn.Sequential(
            nn.Linear(64 * 7 * 7, 128), nn.ReLU(True), nn.Dropout(0.2),
            nn.Linear(128, 128), nn.ReLU(True), nn.Dropout(0.2),
            nn.Linear(128, classes),
        )  # fmt: skip
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class SmallResNet(nn.Module):
    """ResNet with six basic blocks: images (batch, 3, 224, 224) -> logits (batch, classes).

    Layer "layer4" returns (batch, 64, 7, 7). Average pooling and one linear layer follow it, as in ResNet-18.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = stage(16, 16, blocks=1, stride=1)
        self.layer2 = stage(16, 32, blocks=1, stride=2)
        self.layer3 = stage(32, 64, blocks=2, stride=2)
        self.layer4 = stage(64, 64, blocks=2, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """A sequence of basic blocks from `before` to `width` channels. The first block has the stride."""
    shortcut = None
    if stride != 1 or before != width:
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    rest = [BasicBlock(width, width) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(before, width, stride, shortcut), *rest)


class SmallSqueezeNet(nn.Module):
    """SqueezeNet 1.0 with a quarter of the channels: images (batch, 3, 224, 224) -> logits (batch, classes) >= 0.

    Layer "features" returns (batch, 64, 13, 13). The head is torchvision's: dropout, 1x1 convolution, ReLU, average.
    As in SqueezeNet, there is no batch normalisation.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=7, stride=2), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
            Fire(16, 8, 16, 16), Fire(32, 8, 16, 16), Fire(32, 16, 32, 32),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
            Fire(64, 16, 32, 32), Fire(64, 24, 48, 48), Fire(96, 24, 48, 48), Fire(96, 32, 64, 64),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
            Fire(128, 32, 32, 32),
        )  # fmt: skip
        last = nn.Conv2d(64, classes, kernel_size=1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        initialise(self)
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def initialise(model: nn.Module) -> None:
    """He's uniform random weights, as in torchvision's SqueezeNet: they keep the scale of the activations."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Recipe(NamedTuple):
    """The function that builds a network for a number of classes, its explained layer, and its weights file."""

    build: Callable[[int], nn.Module]
    layer: str
    file: str


RECIPES = {
    "menagerie/vgg": Recipe(SmallVGG, "features", "vgg.safetensors"),
    "menagerie/resnet": Recipe(SmallResNet, "layer4", "resnet.safetensors"),
    "menagerie/squeezenet": Recipe(SmallSqueezeNet, "features", "squeezenet.safetensors"),
}

NETWORKS = tuple(RECIPES)


def build(name: str) -> tuple[nn.Module, str, tuple[str, ...], Path]:
    """A network with random weights (the same at every call), its layer, its classes and its weights file.

    The model maps normalised images (batch, 3, 224, 224) to logits (batch, 10). The global random state is unchanged.
    """
    recipe = RECIPES[name]
    model = seeded(recipe.build, len(SPECIES))
    return model, recipe.layer, SPECIES, WEIGHTS / recipe.file
