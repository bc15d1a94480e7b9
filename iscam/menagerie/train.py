"""Train the menagerie's networks from fixed seeds: `python -m iscam.menagerie.train [NAME...]`.

A killed run resumes after its last complete epoch, and a finished network is skipped. The training images resemble the
inputs of saliency studies: some images lack parts, some fade to ImageNet's mean grey behind soft masks, and some scenes
show no animal. The visible share of each part determines the target probabilities (`training_images`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from iscam.download import cache_folder
from iscam.menagerie.animals import SPECIES
from iscam.menagerie.networks import WEIGHTS, build
from iscam.menagerie.training_images import (
    EVIDENCE,
    SEEDS,
    all_part_cells,
    altered,
    fingerprint,
    images,
    label,
    moved,
    soft_masks,
    targets,
    visible_shares,
)
from iscam.study.provenance import provenance
from iscam.study.store import write_file
from iscam.transforms import MEAN, STD
from iscam.weights import load_weights


@dataclass(frozen=True)
class Plan:
    """The options of a network's training. Together with the drawings they determine its weights."""

    rate: float
    epochs: int
    images: int = 20_000
    validated: int = 480
    tested: int = 2_000
    batch: int = 64
    decay: float = 0.02
    hidden: float = 0.4  # share of the images behind a soft mask
    seed: int = 0


PLANS = {
    "menagerie/resnet": Plan(rate=4e-3, epochs=4),
    "menagerie/squeezenet": Plan(rate=2e-3, epochs=9),
    "menagerie/vgg": Plan(rate=4e-3, epochs=5),
}


def normalised(images: np.ndarray, device: str) -> Tensor:
    """A network's input (batch, 3, 224, 224) for images (batch, 224, 224, 3) uint8."""
    x = torch.tensor(np.ascontiguousarray(images), device=device).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    return x.mul_(1 / 255 / std).sub_(mean / std)


#: The command that trains a network, without its name.
PROGRAM = "python -m iscam.menagerie.train"


class Training:
    """A network with its optimiser and its log. It resumes from the last checkpoint."""

    def __init__(self, name: str, plan: Plan, device: str) -> None:
        self.name, self.plan, self.device = name, plan, device
        self.model = build(name)[0].to(device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), plan.rate, weight_decay=plan.decay)
        steps = plan.epochs * (plan.images // plan.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, plan.rate, steps, pct_start=0.2)
        self.log: list[dict[str, Any]] = []
        digest = hashlib.sha256(f"{plan} {EVIDENCE} {fingerprint()}".encode()).hexdigest()[:12]
        self.path = cache_folder() / "menagerie" / f"{name.split('/')[1]}-{digest}.pt"
        if self.path.exists():
            saved = torch.load(self.path, map_location=device)
            self.log = saved["log"]
            for key in ("model", "optimiser", "schedule"):
                getattr(self, key).load_state_dict(saved[key])

    def save(self) -> None:
        state = {key: getattr(self, key).state_dict() for key in ("model", "optimiser", "schedule")}
        content = io.BytesIO()
        torch.save({**state, "log": self.log}, content)
        write_file(self.path, content.getvalue())

    def run(self, images: np.ndarray, cells: np.ndarray, validation: np.ndarray) -> None:
        """Run the missing epochs. Each starts from its own seed and ends with a checkpoint."""
        for epoch in range(len(self.log) + 1, self.plan.epochs + 1):
            start = time.perf_counter()
            loss = self.epoch(epoch, images, cells)
            accuracy = top1(probabilities(self.model, validation, self.device), "validation")
            row = {"network": self.name, "epoch": epoch, "loss": loss, "validation_accuracy": accuracy}
            self.log.append({**row, "seconds": round(time.perf_counter() - start, 1)})
            self.save()

    def epoch(self, epoch: int, images: np.ndarray, cells: np.ndarray) -> float:
        """Train on every image once. Returns the mean loss."""
        torch.manual_seed(1000 * self.plan.seed + epoch)  # dropout
        random = torch.Generator().manual_seed(1000 * self.plan.seed + epoch)
        order = torch.randperm(self.plan.images, generator=random)
        batches = order[: len(order) // self.plan.batch * self.plan.batch].view(-1, self.plan.batch)
        losses = []
        self.model.train()
        with tqdm(batches, f"{self.name} {epoch}/{self.plan.epochs}", unit="batch", mininterval=2) as bar:
            for batch in bar:
                losses.append(self.step(*self.examples(batch, images, cells, random)))
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
        return round(float(np.mean(losses)), 4)

    def examples(
        self, batch: Tensor, images: np.ndarray, cells: np.ndarray, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Inputs (batch, 3, 224, 224) and target probabilities (batch, species) of a batch of image numbers."""
        shown, parts = moved(images[batch.numpy()], cells[batch.numpy()], random)
        masks = soft_masks(len(batch), self.plan.hidden, random)
        x = altered(normalised(shown, self.device), masks, random)
        return x, targets(batch, visible_shares(parts, masks)).to(self.device)

    def step(self, x: Tensor, wanted: Tensor) -> float:
        loss = F.cross_entropy(self.model(x), wanted)
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
    """Top-1 accuracy of probabilities (count, classes) on images of a kind."""
    labels = torch.tensor([label(kind, number) for number in range(len(found))])
    return round((found.argmax(1) == labels).double().mean().item(), 4)


def export(model: nn.Module, path: Path) -> None:
    """Write the weights in half precision. The counters of batch normalisation stay integers."""
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, safetensors.torch.save(half))


#: The kinds of test images: complete drawings, and drawings that lack something.
TESTED = (
    "complete",
    "swapped",
    "background",
    "without a shared part",
    "without one varying part",
    "without two varying parts",
)


def figures(model: nn.Module, plan: Plan, device: str, workers: int) -> dict[str, Any]:
    """Accuracy and confidence on unseen images of each kind, and the errors on complete drawings."""
    found = {kind: probabilities(model, images(kind, plan.tested, workers), device) for kind in TESTED}
    complete = found["complete"]
    medians = {t: (complete.log() / t).softmax(1).amax(1).median().item() for t in (0.5, 1.0, 2.0)}
    guesses = Counter(SPECIES[index] for index in found["background"].argmax(1).tolist())
    return {
        "top1": {kind: top1(rows, kind) for kind, rows in found.items()},
        "mean_probability": {kind: mean_probability(rows, kind) for kind, rows in found.items()},
        "median_probability_at_temperature": {str(t): round(value, 4) for t, value in medians.items()},
        "background_share_of_commonest_guess": round(max(guesses.values()) / plan.tested, 4),
        "errors": errors(complete),
    }


def mean_probability(found: Tensor, kind: str) -> float:
    """Mean probability of the right class of a kind of images, from probabilities (count, classes)."""
    labels = torch.tensor([label(kind, number) for number in range(len(found))])
    return round(found[torch.arange(len(found)), labels].mean().item(), 4)


def errors(found: Tensor) -> dict[str, int]:
    """Confused species as "true as predicted", and how often, the most common first."""
    pairs = [(SPECIES[n % len(SPECIES)], SPECIES[index]) for n, index in enumerate(found.argmax(1).tolist())]
    return {f"{a} as {b}": count for (a, b), count in Counter(pairs).most_common() if a != b}


def record(folder: Path, name: str, log: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """Put the network's log into menagerie-training.csv and its figures into menagerie-training.json."""
    folder.mkdir(parents=True, exist_ok=True)
    table, summary = folder / "menagerie-training.csv", folder / "menagerie-training.json"
    rows = pd.DataFrame(log)
    if table.exists():
        before = pd.read_csv(table)
        rows = pd.concat([before[before.network != name], rows])
    write_file(table, rows.to_csv(index=False, lineterminator="\n").encode())
    known = json.loads(summary.read_text()) if summary.exists() else {}
    write_file(summary, (json.dumps({**known, name: result}, indent=2) + "\n").encode())


def train(name: str, plan: Plan, output: Path, results: Path, device: str = "cpu", workers: int = 2) -> None:
    """Train a network unless it is finished, and write its weights, its log and its figures."""
    training = Training(name, plan, device)
    path = output / build(name)[3].name
    if len(training.log) == plan.epochs and path.exists():
        print(f"{name} is already trained; delete {training.path} to train it again")
        return
    cells = all_part_cells(plan.images, workers)
    training.run(images("training", plan.images, workers), cells, images("validation", plan.validated, workers))
    export(training.model, path)
    shipped = build(name)[0].to(device)
    load_weights(shipped, path, name)
    seconds = sum(row["seconds"] for row in training.log)
    result = {
        "figures": figures(shipped, plan, device, workers),
        "drawings": fingerprint(),
        **provenance({"plan": asdict(plan), "first_drawing_seeds": SEEDS}, seconds, f"{PROGRAM} {name}"),
    }
    record(results, name, training.log, result)
    print(json.dumps({name: result["figures"]}, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PLANS)} (default: all)")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder for the weights (default: the package's)")
    parser.add_argument("--results", type=Path, default=Path("data/results"), help="folder for log and figures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    given = parser.parse_args(arguments)
    for name in given.names or PLANS:
        if name not in PLANS:
            parser.error(f"unknown network {name!r}; valid networks: {', '.join(PLANS)}")
        train(name, PLANS[name], given.output, given.results, given.device, given.workers)


if __name__ == "__main__":
    main()
