"""Small studies, and comparison of their tables."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import iscam

KEYS = ["model", "image", "method", "metric"]

#: Two drawings, two quick methods.
TINY = iscam.Study(count=2, methods={"identity": {}, "grad_cam": {}}, metrics=("average_drop", "energy"))


def equal_tables(a: pd.DataFrame, b: pd.DataFrame, tolerance: float = 1e-6) -> bool:
    """True if the tables have the same rows in the same order, and values that differ by rounding at most."""
    same_rows = a.drop(columns="value").equals(b.drop(columns="value"))
    return same_rows and np.allclose(a["value"].astype(float), b["value"].astype(float), atol=tolerance, equal_nan=True)


def write_images(folder: Path, count: int = 2, seed: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    """Write images 0.png, 1.png, ... of random blocks into a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        blocks = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(blocks).resize(size).save(folder / f"{index}.png")
    return folder


#: Code of a user's model. A forward pass of the n-th image fails as often as the text file `failures` says.
OWN_MODEL = """
from pathlib import Path
import torch, iscam

FAILURES = Path(__file__).with_name("failures")

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 5)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if FAILURES.exists() and self.calls > int(FAILURES.read_text()):
            FAILURES.unlink()
            raise ERROR("the device failed")
        return self.head(self.layer(x).relu().mean((2, 3)))

def network():
    return iscam.Network(Own(), "layer")
"""

#: Code of a user's model that reads its weights from the file `weights.pth` and its scale from the module `scales`.
OWN_WEIGHTS = """
from pathlib import Path
import torch, iscam
import scales

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, x):
        return scales.scaled(self.head(self.layer(x).relu().mean((2, 3))))

def network():
    net = iscam.Network(Own(), "layer")
    net.model.load_state_dict(torch.load(Path(__file__).with_name("weights.pth")))
    return net
"""


def write_own_weights(folder: Path, seed: int = 0) -> None:
    """Write new weights of OWN_WEIGHTS."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"layer.weight": (4, 3, 3, 3), "layer.bias": (4,), "head.weight": (5, 4), "head.bias": (5,)}
    torch.save(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, folder / "weights.pth"
    )


def write_own_scale(folder: Path, scale: float = 1.0) -> None:
    """Write the module `scales` of OWN_WEIGHTS, so that the next import reads the new code."""
    (folder / "scales.py").write_text(f"def scaled(x):\n    return x * {scale}\n")
    sys.modules.pop("scales", None)


#: Code of a user's model that takes images of 16x24 in [0, 1], and no others.
OWN_TRANSFORM = """
import torch, iscam
from torchvision.transforms import v2

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, x):
        assert x.shape[1:] == (3, 16, 24) and x.min() >= 0 and x.max() <= 1
        return self.head(self.layer(x).relu().mean((2, 3)))

def network():
    transform = v2.Compose([v2.Resize((16, 24)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return iscam.Network(Own(), "layer", transform=transform)
"""
