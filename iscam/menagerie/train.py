"""Makes the menagerie's networks again, from fixed seeds: `python -m iscam.menagerie.train [NAME...]`.

Images are drawn once into the cache. A killed run goes on after its last whole epoch; a finished one is
skipped. Training shows the networks what studies of saliency do to images: parts are left out, soft masks fade
images to ImageNet's mean grey, and scenes without an animal are of no class.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from iscam.download import cache_folder
from iscam.menagerie.draw import ANIMAL, RELATIVES, SPECIES, draw, parts_of
from iscam.menagerie.networks import WEIGHTS, build
from iscam.model import MEAN, STD
from iscam.zoo import load_model

#: First drawing seed of each kind of images; those below are left to studies.
SEEDS = {
    "training": 1_000_000,
    "validation": 2_000_000,
    "whole": 3_000_000,
    "swapped": 3_000_000,
    "background": 3_000_000,
    "without other": 3_000_000,
    "without decisive": 3_000_000,
}
CHUNK = 100  # images drawn between two marks of what is done


@dataclass(frozen=True)
class Plan:
    """All that a network's training depends on, beside the drawings."""

    rate: float
    epochs: int
    images: int = 16_800
    validated: int = 500
    tested: int = 2_000
    batch: int = 64
    decay: float = 0.02
    smoothing: float = 0.1
    hidden: float = 0.4  # share of the images that are seen through a soft mask
    seed: int = 0


PLANS = {
    "menagerie/resnet": Plan(rate=4e-3, epochs=6),
    "menagerie/squeezenet": Plan(rate=2e-3, epochs=8),
    "menagerie/vgg": Plan(rate=2e-3, epochs=5),
}


# Images


def label(kind: str, number: int) -> int:
    """The class of an image; -1 for a training image without an animal (every 21st)."""
    if kind == "training":
        return -1 if number % 21 == 20 else number % 21 % len(SPECIES)
    return number % len(SPECIES)


def left_out(kind: str, number: int) -> tuple[str, ...]:
    """The parts that an image lacks.

    Half of the training images are whole; the others lose each part with probability 1/4, but a look-alike
    keeps a part that tells it from its base: without them all it is its base.
    """
    index = label(kind, number)
    if kind == "background" or index < 0:
        return (ANIMAL,)
    rng = np.random.default_rng((SEEDS[kind], number))
    decisive = RELATIVES.get(SPECIES[index], ("", ()))[1]
    others = [part for part in parts_of(SPECIES[index]) if part not in decisive]
    if kind == "without decisive":
        return decisive
    if kind == "without other":
        return (str(rng.choice(others)),)
    if kind == "training" and rng.random() < 0.5:
        kept = rng.choice(decisive) if decisive else None
        return tuple(part for part in parts_of(SPECIES[index]) if part != kept and rng.random() < 0.25)
    return ()


def image(kind: str, number: int) -> np.ndarray:
    """One image (224, 224, 3) uint8; swapped ones show the animal in the scene of another drawing."""
    seed = SEEDS[kind] + number
    drawing = draw(SPECIES[label(kind, number)], seed, without=left_out(kind, number))
    if kind != "swapped":
        return drawing.image
    other = draw(SPECIES[0], seed + 500_000, without=ANIMAL)
    return np.where(drawing.mask[:, :, None], drawing.image, other.image)


@cache
def fingerprint() -> str:
    """Some hexadecimal digits that change when the drawings do."""
    return hashlib.sha256(b"".join(image("training", n).tobytes() for n in range(21))).hexdigest()[:12]


def images(kind: str, count: int, workers: int) -> np.ndarray:
    """`count` images (count, 224, 224, 3) uint8 of a kind, on disk; those not drawn yet are drawn now."""
    folder = cache_folder() / "menagerie" / fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind.replace(' ', '-')}-{count}.npy"
    done = path.with_suffix(".done")
    if not path.exists():
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, 224, 224, 3)).flush()
        done.write_text("")
    drawn = set(map(int, done.read_text().split()))
    missing = [first for first in range(0, count, CHUNK) if first not in drawn]
    with done.open("a") as marks, ProcessPoolExecutor(workers) as pool:
        chunks = pool.map(partial(draw_chunk, path, kind), missing)
        for first in tqdm(chunks, f"drawing {kind}", len(missing), unit="chunk", disable=not missing):
            print(first, file=marks, flush=True)
    return np.load(path, mmap_mode="r")


def draw_chunk(path: Path, kind: str, first: int) -> int:
    """Draw the images from `first` on into the file."""
    data = np.load(path, mmap_mode="r+")
    for number in range(first, min(first + CHUNK, len(data))):
        data[number] = image(kind, number)
    return first


# Training


def targets(count: int) -> Tensor:
    """Target probabilities (count, classes) of the training images: scenes without an animal are of no class."""
    labels = torch.tensor([label("training", number) for number in range(count)])
    certain = F.one_hot(labels.clamp(min=0), len(SPECIES)).float()
    return torch.where(labels[:, None] < 0, 1 / len(SPECIES), certain)


def normalised(images: np.ndarray, device: str) -> Tensor:
    """Images (batch, 224, 224, 3) uint8 to a network's input (batch, 3, 224, 224)."""
    x = torch.tensor(images, device=device).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    return x.mul_(1 / 255 / std).sub_(mean / std)


def shifted(images: np.ndarray, random: torch.Generator) -> np.ndarray:
    """Images (batch, 224, 224, 3), all moved by the same few pixels; their edges are repeated."""
    down, right = torch.randint(-8, 9, (2,), generator=random).tolist()
    pad = [(0, 0), (8, 8), (8, 8), (0, 0)]
    return np.pad(images, pad, mode="edge")[:, 8 - down : 232 - down, 8 - right : 232 - right]


def altered(x: Tensor, hidden: float, random: torch.Generator) -> Tensor:
    """Inputs (batch, 3, 224, 224) of other contrast and light, some of them half hidden."""
    gain, light = torch.rand(2, len(x), 1, 1, 1, generator=random) - 0.5
    masks = soft_masks(len(x), hidden, random)
    return torch.addcmul((masks * 0.6 * light).to(x.device), x, (masks * (1 + 0.4 * gain)).to(x.device))


def soft_masks(count: int, hidden: float, random: torch.Generator) -> Tensor:
    """Masks (count, 1, 224, 224) in [0, 1]: a share `hidden` are soft blobs of any area, the others all ones."""
    cells = int(torch.randint(3, 14, (), generator=random))
    noise = torch.rand(count, 1, cells, cells, generator=random)
    area, sharpness, shown = torch.rand(3, count, 1, 1, 1, generator=random)
    blobs = ((noise - 1 + area) * (1 + 9 * sharpness) + 0.5).clamp(0, 1)
    return F.interpolate(torch.where(shown > hidden, 1.0, blobs), (224, 224), mode="bilinear")


class Training:
    """A network, its optimiser and its log, which go on from the last checkpoint."""

    def __init__(self, name: str, plan: Plan, device: str) -> None:
        self.name, self.plan, self.device = name, plan, device
        self.model = build(name)[0].to(device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), plan.rate, weight_decay=plan.decay)
        steps = plan.epochs * (plan.images // plan.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, plan.rate, steps, pct_start=0.2)
        self.log: list[dict[str, Any]] = []
        digest = hashlib.sha256(f"{plan} {fingerprint()}".encode()).hexdigest()[:12]
        self.path = cache_folder() / "menagerie" / f"{name.split('/')[1]}-{digest}.pt"
        if self.path.exists():
            saved = torch.load(self.path, map_location=device)
            self.log = saved["log"]
            for key in ("model", "optimiser", "schedule"):
                getattr(self, key).load_state_dict(saved[key])

    def save(self) -> None:
        state = {key: getattr(self, key).state_dict() for key in ("model", "optimiser", "schedule")}
        partial_file = self.path.with_suffix(".part")
        torch.save({**state, "log": self.log}, partial_file)
        partial_file.replace(self.path)

    def run(self, images: np.ndarray, validation: np.ndarray) -> None:
        """The epochs that are missing, each from its own seed and followed by a checkpoint."""
        for epoch in range(len(self.log) + 1, self.plan.epochs + 1):
            start = time.perf_counter()
            loss = self.epoch(epoch, images)
            accuracy = top1(probabilities(self.model, validation, self.device), "validation")
            row = {"network": self.name, "epoch": epoch, "loss": loss, "validation_accuracy": accuracy}
            self.log.append({**row, "seconds": round(time.perf_counter() - start, 1)})
            self.save()

    def epoch(self, epoch: int, images: np.ndarray) -> float:
        """One pass over the training images; returns the mean loss."""
        torch.manual_seed(1000 * self.plan.seed + epoch)  # dropout
        random = torch.Generator().manual_seed(1000 * self.plan.seed + epoch)
        order = torch.randperm(self.plan.images, generator=random)
        batches = order[: len(order) // self.plan.batch * self.plan.batch].view(-1, self.plan.batch)
        wanted, losses = targets(self.plan.images), []
        self.model.train()
        with tqdm(batches, f"{self.name} {epoch}/{self.plan.epochs}", unit="batch", mininterval=2) as bar:
            for batch in bar:
                losses.append(self.step(images[batch.numpy()], wanted[batch].to(self.device), random))
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        return round(float(np.mean(losses)), 4)

    def step(self, images: np.ndarray, wanted: Tensor, random: torch.Generator) -> float:
        x = altered(normalised(shifted(images, random), self.device), self.plan.hidden, random)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), wanted, label_smoothing=self.plan.smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return loss.item()


def probabilities(model: nn.Module, images: np.ndarray, device: str) -> Tensor:
    """Class probabilities (count, classes) of images (count, 224, 224, 3) uint8."""
    model.eval()
    with torch.inference_mode():
        parts = [model(normalised(images[i : i + 64], device)) for i in range(0, len(images), 64)]
    return torch.cat(parts).float().softmax(1).cpu()


def top1(found: Tensor, kind: str) -> float:
    """Share of the probabilities (count, classes) whose largest is the image's class."""
    labels = torch.tensor([label(kind, number) for number in range(len(found))])
    return round((found.argmax(1) == labels).double().mean().item(), 4)


# Results


def export(model: nn.Module, path: Path) -> None:
    """The weights in half precision; counters of batch normalisation stay whole numbers."""
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors.torch.save(half))


def figures(model: nn.Module, plan: Plan, device: str, workers: int) -> dict[str, Any]:
    """What the network makes of unseen images: whole, in another scene, and with something missing."""
    kinds = ("whole", "swapped", "background", "without other", "without decisive")
    found = {kind: probabilities(model, images(kind, plan.tested, workers), device) for kind in kinds}
    whole = found["whole"]
    medians = {t: (whole.log() / t).softmax(1).amax(1).median().item() for t in (0.5, 1.0, 2.0)}
    guesses = Counter(SPECIES[index] for index in found["background"].argmax(1).tolist())
    return {
        "top1": top1(whole, "whole"),
        "median_probability_at_temperature": {str(t): round(value, 4) for t, value in medians.items()},
        "top1_background_swapped": top1(found["swapped"], "swapped"),
        "top1_without_a_part_that_does_not_decide": top1(found["without other"], "without other"),
        "background_alone": {
            "top1": top1(found["background"], "background"),
            "mean_largest_probability": round(found["background"].amax(1).mean().item(), 4),
            "share_of_commonest_guess": round(max(guesses.values()) / plan.tested, 4),
        },
        "look_alikes_without_what_decides": without_decisive(found["without decisive"]),
        "errors": errors(whole),
    }


def without_decisive(found: Tensor) -> dict[str, float]:
    """How look-alikes are seen that lack all that tells them from their base, from rows (count, classes)."""
    rows = [number for number in range(len(found)) if SPECIES[number % len(SPECIES)] in RELATIVES]
    own = torch.tensor(rows) % len(SPECIES)
    base = torch.tensor([SPECIES.index(RELATIVES[SPECIES[index]][0]) for index in own.tolist()])
    guesses = found[rows].argmax(1)
    return {
        "seen_as_base": round((guesses == base).double().mean().item(), 4),
        "seen_as_themselves": round((guesses == own).double().mean().item(), 4),
        "mean_probability_of_base": round(found[rows, base].mean().item(), 4),
        "mean_probability_of_themselves": round(found[rows, own].mean().item(), 4),
    }


def errors(found: Tensor) -> dict[str, int]:
    """Confused species, "true as predicted", and how often, the commonest first."""
    pairs = [(SPECIES[n % len(SPECIES)], SPECIES[index]) for n, index in enumerate(found.argmax(1).tolist())]
    return {f"{a} as {b}": count for (a, b), count in Counter(pairs).most_common() if a != b}


def record(folder: Path, training: Training, result: dict[str, Any]) -> None:
    """Put the network's rows into menagerie-training.csv and its figures into menagerie-training.json."""
    folder.mkdir(parents=True, exist_ok=True)
    table, summary = folder / "menagerie-training.csv", folder / "menagerie-training.json"
    rows = pd.DataFrame(training.log)
    if table.exists():
        before = pd.read_csv(table)
        rows = pd.concat([before[before.network != training.name], rows])
    rows.to_csv(table, index=False, lineterminator="\n")
    known = json.loads(summary.read_text()) if summary.exists() else {}
    summary.write_text(json.dumps({**known, training.name: result}, indent=2) + "\n")


def train(name: str, plan: Plan, output: Path, results: Path, device: str = "cpu", workers: int = 2) -> None:
    """Train one network unless it is finished, and write its weights, its log and its figures."""
    training = Training(name, plan, device)
    path = output / build(name)[3].name
    if len(training.log) == plan.epochs and path.exists():
        print(f"{name} is finished; delete {training.path} to train it again")
        return
    training.run(images("training", plan.images, workers), images("validation", plan.validated, workers))
    export(training.model, path)
    shipped = load_model(name, path).to(device).model
    result = {
        "figures": figures(shipped, plan, device, workers),
        "plan": asdict(plan),
        "first_drawing_seeds": SEEDS,
        "drawings": fingerprint(),
        "seconds": round(sum(row["seconds"] for row in training.log), 1),
        "device": device_text(device),
        "date": date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, torchvision, np)},
        },
    }
    record(results, training, result)
    print(json.dumps({name: result["figures"]}, indent=2))


def device_text(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.device(device).type.upper()}, {os.cpu_count()} cores"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m iscam.menagerie.train", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLANS)} (all)")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder of the weights (the package's)")
    parser.add_argument("--results", type=Path, default=Path("data/results"), help="folder of log and figures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    given = parser.parse_args(arguments)
    for name in given.names or PLANS:
        if name not in PLANS:
            parser.error(f"unknown network {name}: choose from {', '.join(PLANS)}")
        train(name, PLANS[name], given.output, given.results, given.device, given.workers)


if __name__ == "__main__":
    main()
