"""The one loop of forward passes: score many altered copies of a picture, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache

import torch
from torch import Tensor, nn
from tqdm import tqdm

from iscam.activations import checked_logits, evaluating
from iscam.errors import InputError, one_of, positive
from iscam.network import Network

SCORES = ("probability", "logit")
PRECISIONS = ("fp32", "bf16")

#: Passes in a batch where the caller does not say: few on a CPU, whose caches are small.
AUTO_BATCH = {"cpu": 32, "cuda": 256}


def masked_scores(
    net: Network,
    inputs: Callable[[Tensor], Tensor],
    passes: int,
    target: int,
    *,
    score: str = "probability",
    precision: str = "fp32",
    compile: str | bool = "auto",
    batch_size: str | int = "auto",
) -> Tensor:
    r"""Scores C(input_p) of one class for p = 0..passes-1, a float32 tensor (passes,) on the network's device.

    `inputs` maps a tensor of pass numbers p to their inputs (len(p), channels, height, width), so that no more than a
    batch of them ever exists. C is the class probability or the logit. `precision="bf16"` computes the network in
    bfloat16 (autocast) and the score in float32. `compile`: True runs the network through `torch.compile`, which takes
    up to a minute the first time and changes scores by rounding; "auto" is False until that is known to repay itself.
    Out of GPU memory, the batch is halved and the work goes on.
    """
    if compile not in ("auto", True, False):
        raise one_of("compile", compile, ("auto", True, False))
    if score not in SCORES:
        raise one_of("score", score, SCORES)
    if precision not in PRECISIONS:
        raise one_of("precision", precision, PRECISIONS)
    size = AUTO_BATCH.get(net.device.type, 32) if batch_size == "auto" else positive("batch_size", batch_size)
    half = torch.autocast(net.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    model = compiled(net.model) if compile is True else net.model
    scores = torch.empty(passes, device=net.device)
    done = 0
    with (
        torch.inference_mode(),
        evaluating(net.model),
        half,
        tqdm(total=passes, desc="forward passes", unit="", leave=False, delay=5, disable=None) as bar,
    ):
        while done < passes:
            batch = torch.arange(done, min(done + size, passes), device=net.device)
            try:
                logits = model(inputs(batch).contiguous(memory_format=torch.channels_last))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size = max(1, size // 2)
                continue
            logits = checked_logits(logits, len(batch)).float()
            if not 0 <= target < logits.shape[1]:
                raise InputError(f"target {target} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
            scores[batch] = (logits.softmax(1) if score == "probability" else logits)[:, target]
            done += len(batch)
            bar.update(len(batch))
    return scores


@lru_cache(maxsize=4)
def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model through `torch.compile`, once; its weights may change afterwards, batches of other sizes recompile."""
    return torch.compile(model, dynamic=False)
