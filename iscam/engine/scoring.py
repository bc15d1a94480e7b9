"""The loop that computes class scores of perturbed inputs, at nearly the throughput of the bare model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from iscam.capture import eval_mode, model_errors
from iscam.engine.batching import Batches, channels_last
from iscam.engine.compiling import Forward
from iscam.errors import InputError
from iscam.model import Network
from iscam.validation import check_choice, check_int

SCORES = ("probability", "logit")
PRECISIONS = ("fp32", "bf16")

#: A function from a range of pass numbers to the model's arguments, so that only one batch of inputs exists at a time.
Inputs = Callable[[range], Sequence[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Options for scoring inputs.

    - `score`: the class score C(.), "probability" or "logit".
    - `precision`: "fp32" uses torch's default float32 kernels (TF32 convolutions on recent NVIDIA GPUs unless
      `torch.backends.cudnn.allow_tf32` is False). "bf16" runs the network under bfloat16 autocast and computes the
      score in float32.
    - `compile`: run a frozen copy of the model through `torch.compile`. The first map then takes up to a minute longer,
      and the scores change only by rounding. If the model changes, a new copy is compiled.
    - `batch_size`: the maximum number of passes per batch. "auto" means 32 on a CPU. On a GPU it means the number of
      passes that fit into half of the free memory, at most 256. The batch size changes results only by rounding. If
      memory runs out, the batch is halved and the work resumes.
    """

    score: str = "probability"
    precision: str = "fp32"
    compile: bool = False
    batch_size: str | int = "auto"

    def __post_init__(self) -> None:
        check_choice("score", self.score, SCORES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("compile", self.compile, (False, True))
        if self.batch_size != "auto":
            check_int("batch_size", self.batch_size)


def masked_scores(
    net: Network,
    inputs: Inputs,
    passes: int,
    target: int | Tensor,
    scoring: Scoring = Scoring(),
    group_size: int = 1,
) -> Tensor:
    r"""Compute the scores C(input_p) of a class for p = 0..passes-1, float32 (passes,) on the network's device.

    `target` is one class for all passes, or one class per pass. `group_size` is the number of passes that share work;
    the batch sizes and `passes` are multiples of it. After the first batch, the loop does not synchronise with the GPU.

    Raises `InputError` for a target out of range, for logits that are not finite, and if the model fails.
    """
    targets = torch.as_tensor(target, device=None if isinstance(target, Tensor) else "cpu")
    bounds = (int(targets.min()), int(targets.max())) if targets.numel() else (0, 0)
    targets = targets.to(net.device).expand(passes)[:, None]
    scores = torch.empty(passes, dtype=torch.float32, device=net.device)
    finite = torch.ones((), dtype=torch.bool, device=net.device)
    done = 0
    with (
        torch.inference_mode(),
        eval_mode(net.model),
        autocast(net.device, scoring.precision),
        tqdm(total=passes, desc="forward passes", unit="", leave=False, delay=5, disable=None) as bar,
    ):
        for logits in batch_logits(net, inputs, passes, scoring, group_size):
            check_classes(bounds, logits.shape[1])
            finite &= logits.isfinite().all()  # read only once, at the end, because each read makes a GPU wait
            values = net.scores_to_probabilities(logits) if scoring.score == "probability" else logits
            span = slice(done, done + len(logits))
            scores[span] = values.gather(1, targets[span])[:, 0]
            done += len(logits)
            bar.update(len(logits))
    if not finite:
        raise InputError("the model returned NaN or infinite logits; check its weights and the images' normalisation")
    return scores


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return a bfloat16 autocast for "bf16". For "fp32", autocast is off, even inside an autocast of the caller."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def check_classes(bounds: tuple[int, int], classes: int) -> None:
    """Raise `InputError` for a class out of range."""
    lowest, highest = bounds
    if not 0 <= lowest <= highest < classes:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"target {wrong} is out of range: the model has classes 0 to {classes - 1}")


def batch_logits(net: Network, inputs: Inputs, passes: int, scoring: Scoring, group_size: int) -> Iterator[Tensor]:
    """Yield the float32 logits (passes of the batch, classes) of each batch."""
    batches = Batches(net, passes, scoring.batch_size, group_size)
    forward = Forward(net, scoring.compile)
    while batches.left:
        span = batches.next_span(full=forward.wants_full(batches.left, batches.size))
        try:
            arguments = channels_last(inputs(span))
            with model_errors(arguments[0]):
                if batches.must_measure:
                    batches.measure(arguments, scoring.precision)
                    continue
                logits = forward(arguments, len(span), batches.size)
        except RuntimeError as error:
            batches.shrink(error, len(span))
            continue
        batches.done += len(logits)
        yield logits
