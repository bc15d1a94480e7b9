"""Train the menagerie's networks from fixed seeds: `python -m iscam.menagerie.train [NAME...]`.

A killed run resumes after its last complete epoch, and a finished network is skipped. The training images resemble the
inputs of saliency studies: some images lack parts, some fade to ImageNet's mean grey behind soft masks, and scenes
without an animal belong to no class.
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
from iscam.menagerie.animals import RELATIVES, SPECIES
from iscam.menagerie.networks import WEIGHTS, build
from iscam.menagerie.training_images import SEEDS, altered, fingerprint, images, label, shifted, targets
from iscam.study.provenance import provenance
from iscam.study.store import write_file
from iscam.transforms import MEAN, STD
from iscam.zoo import load_model


@dataclass(frozen=True)
class Plan:
    """The options of a network's training. Together with the drawings they determine its weights."""

    rate: float
    epochs: int
    images: int = 16_800
    validated: int = 500
    tested: int = 2_000
    batch: int = 64
    decay: float = 0.02
    smoothing: float = 0.1
    hidden: float = 0.4  # share of the images behind a soft mask
    seed: int = 0


PLANS = {
    "menagerie/resnet": Plan(rate=4e-3, epochs=6),
    "menagerie/squeezenet": Plan(rate=2e-3, epochs=8),
    "menagerie/vgg": Plan(rate=2e-3, epochs=5),
}


def normalised(images: np.ndarray, device: str) -> Tensor:
    """A network's input (batch, 3, 224, 224) for images (batch, 224, 224, 3) uint8."""
    x = torch.tensor(np.ascontiguousarray(images), device=device).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    return x.mul_(1 / 255 / std).sub_(mean / std)


class Training:
    """A network with its optimiser and its log. It resumes from the last checkpoint."""

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
        content = io.BytesIO()
        torch.save({**state, "log": self.log}, content)
        write_file(self.path, content.getvalue())

    def run(self, images: np.ndarray, validation: np.ndarray) -> None:
        """Run the missing epochs. Each starts from its own seed and ends with a checkpoint."""
        for epoch in range(len(self.log) + 1, self.plan.epochs + 1):
            start = time.perf_counter()
            loss = self.epoch(epoch, images)
            accuracy = top1(probabilities(self.model, validation, self.device), "validation")
            row = {"network": self.name, "epoch": epoch, "loss": loss, "validation_accuracy": accuracy}
            self.log.append({**row, "seconds": round(time.perf_counter() - start, 1)})
            self.save()

    def epoch(self, epoch: int, images: np.ndarray) -> float:
        """Train on every image once. Returns the mean loss."""
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
    """Accuracy of the probabilities (count, classes) of a kind of images."""
    labels = torch.tensor([label(kind, number) for number in range(len(found))])
    return round((found.argmax(1) == labels).double().mean().item(), 4)


def export(model: nn.Module, path: Path) -> None:
    """Write the weights in half precision. The counters of batch normalisation stay integers."""
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, safetensors.torch.save(half))


def figures(model: nn.Module, plan: Plan, device: str, workers: int) -> dict[str, Any]:
    """Accuracy on unseen images: complete, in another scene, without a part, and without the animal."""
    kinds = ("complete", "swapped", "background", "without other", "without decisive")
    found = {kind: probabilities(model, images(kind, plan.tested, workers), device) for kind in kinds}
    complete = found["complete"]
    medians = {t: (complete.log() / t).softmax(1).amax(1).median().item() for t in (0.5, 1.0, 2.0)}
    guesses = Counter(SPECIES[index] for index in found["background"].argmax(1).tolist())
    return {
        "top1": top1(complete, "complete"),
        "median_probability_at_temperature": {str(t): round(value, 4) for t, value in medians.items()},
        "top1_background_swapped": top1(found["swapped"], "swapped"),
        "top1_without_a_part_that_does_not_decide": top1(found["without other"], "without other"),
        "background_alone": {
            "top1": top1(found["background"], "background"),
            "mean_largest_probability": round(found["background"].amax(1).mean().item(), 4),
            "share_of_commonest_guess": round(max(guesses.values()) / plan.tested, 4),
        },
        "look_alikes_without_what_decides": without_decisive(found["without decisive"]),
        "errors": errors(complete),
    }


def without_decisive(found: Tensor) -> dict[str, float]:
    """How look-alikes are classified without the parts that distinguish them, from probabilities (count, classes)."""
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
    training.run(images("training", plan.images, workers), images("validation", plan.validated, workers))
    export(training.model, path)
    shipped = load_model(name, path).to(device).model
    seconds = sum(row["seconds"] for row in training.log)
    result = {
        "figures": figures(shipped, plan, device, workers),
        "drawings": fingerprint(),
        **provenance({"plan": asdict(plan), "first_drawing_seeds": SEEDS}, seconds),
    }
    record(results, name, training.log, result)
    print(json.dumps({name: result["figures"]}, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m iscam.menagerie.train", description=__doc__)
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
