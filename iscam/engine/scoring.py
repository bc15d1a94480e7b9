"""The one loop of forward passes: class scores of perturbed inputs, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from tqdm import tqdm

from iscam.capture import checked_finite, eval_mode, model_errors
from iscam.engine.allocator import keep_memory
from iscam.engine.batching import balanced_batch, channels_last, first_batch, gpu_batch, padded, whole_groups
from iscam.engine.compiling import COMPILING, compiled_copy
from iscam.errors import InputError, is_out_of_memory
from iscam.model import Network
from iscam.validation import unknown_choice

SCORES = ("probability", "logit")


PRECISIONS = ("fp32", "bf16")


#: What is known of a model as long as it lives: the seconds that its passes took so far, the passes in a batch that its
#: GPU holds, and its compiled copy, beside what tells if it has changed since.
spent: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()


def masked_scores(
    net: Network,
    inputs: Callable[[range], Sequence[Tensor]],
    passes: int,
    target: int | Tensor,
    *,
    score: str = "probability",
    precision: str = "fp32",
    compile: str | bool = "auto",
    batch_size: str | int = "auto",
    group_size: int = 1,
) -> Tensor:
    r"""Scores C(input_p) of a class for p = 0..passes-1, a float32 tensor (passes,) on the network's device.

    `inputs` maps a range of pass numbers to what the model is called with, so that no more than a batch of inputs ever
    exists. C is the class probability or the logit of `target`, one class or one a pass. Batches, and `passes`, are
    multiples of `together`, the passes that share work. After its first batch this loop never makes a GPU wait by
    looking at a number.

    `precision="bf16"` computes the network in bfloat16 (autocast), the score in float32; "fp32" is what torch makes of
    float32, which on recent NVIDIA GPUs rounds the inputs of convolutions to TensorFloat-32 unless
    `torch.backends.cudnn.allow_tf32` is False. `compile`: True runs a frozen copy of the model through `torch.compile`,
    batch normalisation folded, in batches of one shape; that takes up to a minute the first time and changes scores by
    rounding. "auto" does so once the model has run for a minute; what is less than 2/3 of a batch, and all where
    compiling fails, runs uncompiled. `batch_size="auto"` is 32 on a CPU, and on a GPU what half of the free memory
    holds, at most 256. Out of memory, the batch is halved and the work goes on.
    """
    if score not in SCORES:
        raise unknown_choice("score", score, SCORES)
    if precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)
    half = torch.autocast(net.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    if net.device.type == "cpu" and passes > 1:
        keep_memory()
    targets = torch.as_tensor(target)
    lowest, highest = int(targets.min()), int(targets.max())
    targets = targets.to(net.device).expand(passes)[:, None]
    scores = torch.empty(passes, dtype=torch.float32, device=net.device)
    finite = torch.ones((), dtype=torch.bool, device=net.device)
    done, started = 0, time.perf_counter()
    with (
        torch.inference_mode(),
        eval_mode(net.model),
        half,
        tqdm(total=passes, desc="forward passes", unit="", leave=False, delay=5, disable=None) as bar,
    ):
        for logits in batches(net, inputs, passes, precision, compile, batch_size, group_size):
            finite &= logits.isfinite().all()  # looked at once, at the end: a GPU would wait for each look
            if not 0 <= lowest <= highest < logits.shape[1]:
                wrong = lowest if lowest < 0 else highest
                raise InputError(f"target {wrong} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
            values = net.scores_to_probabilities(logits) if score == "probability" else logits
            part = slice(done, done + len(logits))
            scores[part] = values.gather(1, targets[part])[:, 0]
            done += len(logits)
            bar.update(len(logits))
    checked_finite(torch.where(finite, scores, torch.nan))
    spent[net.model] = spent.get(net.model, 0) + time.perf_counter() - started
    return scores


def batches(
    net: Network,
    inputs: Callable[[range], Sequence[Tensor]],
    passes: int,
    precision: str,
    compile: str | bool,
    batch_size: str | int,
    group_size: int,
) -> Iterator[Tensor]:
    """Logits (some passes, classes) in float32, batch after batch; arguments as in `masked_scores`."""
    if compile not in ("auto", True, False):
        raise unknown_choice("compile", compile, ("auto", True, False))
    model, size = net.model, whole_groups(first_batch(batch_size), group_size)
    measuring = batch_size == "auto" and net.device.type == "cuda" and passes > size
    done, fast, started = 0, None, time.perf_counter()
    while done < passes:
        left, seconds = passes - done, spent.get(model, 0) + time.perf_counter() - started
        repays = compile is True or (compile == "auto" and seconds > COMPILING)
        # Compiled code wants batches of one shape; to pad more than a third may cost more than to run uncompiled.
        full = repays and fast is not model and left > size * 2 // 3
        batch = range(done, done + min(left, size if full else balanced_batch(left, size, group_size)))
        try:
            arguments = channels_last(inputs(batch))
            if full and len(batch) < size:
                arguments = [padded(x, len(x) * size // len(batch)) for x in arguments]
            if measuring:
                with model_errors(arguments[0]):
                    size, measuring = whole_groups(gpu_batch(model, arguments, precision), group_size), False
                continue
            if full and fast is None:
                fast = compiled_copy(model, arguments)
            with model_errors(arguments[0]):
                logits = fast(*arguments) if full and fast else model(*arguments)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(batch) <= group_size:
                raise
            size = whole_groups(len(batch) // 2, group_size)
            continue
        logits = net.read_output(logits, size if full else len(batch))[:left].float()
        done += len(logits)
        yield logits
