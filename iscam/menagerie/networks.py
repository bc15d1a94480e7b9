"""Three small networks that classify the menagerie's species, made of torchvision's own blocks.

Each belongs to one of the papers' families, with fewer channels: at most 0.15 billion multiply-adds per image of
224x224, and 64 channels in the explained layer.
`iscam.menagerie.train` trains them.

As in VGG, only layers with even windows halve the resolution. So the receptive field of each cell is centred where an
upsampled map draws the cell. In ResNet-18 and SqueezeNet1.0, it is up to half a cell away from there.
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


class Smoothing(nn.AvgPool2d):
    """The mean over the 5x5 neighbours of each position, in evaluation mode only.

    It widens the maps, so that the image behind a map shows more of the animal and keeps more of its probability. It
    was added after training. The page on the protocol gives the reason and the numbers.
    """

    def __init__(self) -> None:
        super().__init__(kernel_size=5, stride=1, padding=2, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else super().forward(x)


class SmallVGG(nn.Module):
    """VGG with an eighth of the channels: images (batch, 3, 224, 224) -> logits (batch, classes).

    Layer "features" returns (batch, 64, 14, 14). As in VGG, hidden layers follow it, so CAM is not defined. The last of
    VGG's five poolings does not halve the resolution: with finer cells, a map can tell the parts of an animal apart.
    Unlike in VGG, the hidden layers see the mean over all positions. With so few training images, they would otherwise
    not learn what a hidden part means. Batch normalisation (as in torchvision's vgg_bn) makes training from scratch
    reliable.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        convolutions = make_layers([8, "M", 16, "M", 32, "M", 64, 64, "M", 64, 64], batch_norm=True)
        self.features = convolutions.extend([Smoothing(), nn.MaxPool2d(kernel_size=3, stride=1, padding=1)])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(True), nn.Dropout(0.2),
            nn.Linear(128, 128), nn.ReLU(True), nn.Dropout(0.2),
            nn.Linear(128, classes),
        )  # fmt: skip
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class SmallResNet(nn.Module):
    """ResNet with four basic blocks: images (batch, 3, 224, 224) -> logits (batch, classes).

    Layer "layer4" returns (batch, 64, 14, 14). Average pooling and one linear layer follow it, as in ResNet-18. Stages
    begin with average pooling instead of a convolution with stride 2, and the last stage does not halve the resolution.
    With fewer blocks and a finer last layer, the receptive field of a cell is less than half as wide as in ResNet-18.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=8, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=2)
        self.layer1 = nn.Sequential(block(16, 16))
        self.layer2 = nn.Sequential(nn.AvgPool2d(2), block(16, 32))
        self.layer3 = nn.Sequential(nn.AvgPool2d(2), block(32, 64))
        self.layer4 = nn.Sequential(block(64, 64))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def block(before: int, width: int) -> BasicBlock:
    """A basic block from `before` to `width` channels, without a stride."""
    if before == width:
        return BasicBlock(width, width)
    shortcut = nn.Sequential(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width))
    return BasicBlock(before, width, downsample=shortcut)


class SmallSqueezeNet(nn.Module):
    """SqueezeNet 1.0 with fewer channels: images (batch, 3, 224, 224) -> logits (batch, classes) >= 0.

    Layer "features" returns (batch, 64, 14, 14). The head is torchvision's: dropout, 1x1 convolution, ReLU, average.
    As in SqueezeNet, there is no batch normalisation. As in `SmallVGG`, a last pooling does not halve the resolution.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=8, stride=2, padding=3), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),
            Fire(16, 8, 16, 16), Fire(32, 8, 16, 16), Fire(32, 16, 32, 32),
            nn.MaxPool2d(kernel_size=2),
            Fire(64, 16, 32, 32), Fire(64, 24, 48, 48), Fire(96, 24, 48, 48), Fire(96, 32, 64, 64),
            nn.MaxPool2d(kernel_size=2),
            Fire(128, 32, 32, 32),
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
        )  # fmt: skip
        last = nn.Conv2d(64, classes, kernel_size=1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        initialise(self)
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def initialise(model: nn.Module) -> None:
    """Kaiming uniform initialisation, as in torchvision's SqueezeNet. It keeps the scale of the activations."""
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

    The model maps normalised images (batch, 3, 224, 224) to logits (batch, classes). The global random state does not
    change.
    """
    recipe = RECIPES[name]
    model = seeded(recipe.build, len(SPECIES))
    return model, recipe.layer, SPECIES, WEIGHTS / recipe.file
