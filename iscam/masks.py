"""The one loop of forward passes: score many altered copies of a picture, a batch at a time, near the floor."""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from tqdm import tqdm

from iscam.activations import checked_finite, checked_shape, evaluating, taking
from iscam.errors import InputError, one_of, positive, wants_memory
from iscam.memory import keep_memory
from iscam.network import Network

SCORES = ("probability", "logit")
PRECISIONS = ("fp32", "bf16")

#: Passes in a batch on a CPU, and at most on a GPU; larger ones gain little (benchmarks/speed.py tells), and compiled
#: code, which wants batches of one shape, would leave more of a map to the uncompiled model.
BATCH, LARGEST_BATCH = 32, 256

#: Seconds that compiling may take: with `compile="auto"`, a model that has run for longer is compiled.
COMPILING = 60.0

#: What is known of a model as long as it lives: the seconds that its passes took so far, the passes in a batch that its
#: GPU holds, and its compiled copy, beside what tells if it has changed since.
spent: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()
sizes: WeakKeyDictionary[nn.Module, dict[tuple, int]] = WeakKeyDictionary()
copies: WeakKeyDictionary[nn.Module, tuple[str, nn.Module | None]] = WeakKeyDictionary()


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
    together: int = 1,
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
        raise one_of("score", score, SCORES)
    if precision not in PRECISIONS:
        raise one_of("precision", precision, PRECISIONS)
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
        evaluating(net.model),
        half,
        tqdm(total=passes, desc="forward passes", unit="", leave=False, delay=5, disable=None) as bar,
    ):
        for logits in batches(net, inputs, passes, precision, compile, batch_size, together):
            finite &= logits.isfinite().all()  # looked at once, at the end: a GPU would wait for each look
            if not 0 <= lowest <= highest < logits.shape[1]:
                wrong = lowest if lowest < 0 else highest
                raise InputError(f"target {wrong} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
            if score == "probability" and logits.shape[1] == 1:
                raise InputError(
                    "the model has one class, of probability 1 whatever the input: wrap it so that it gives two, "
                    "torch.cat([-logit, logit], 1) / 2; or choose score='logit', which score methods take"
                )
            values = logits.softmax(1) if score == "probability" else logits
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
    together: int,
) -> Iterator[Tensor]:
    """Logits (some passes, classes) in float32, batch after batch; arguments as in `masked_scores`."""
    if compile not in ("auto", True, False):
        raise one_of("compile", compile, ("auto", True, False))
    model, size = net.model, whole_groups(first_batch(batch_size), together)
    measuring = batch_size == "auto" and net.device.type == "cuda" and passes > size
    done, fast, started = 0, None, time.perf_counter()
    while done < passes:
        left, seconds = passes - done, spent.get(model, 0) + time.perf_counter() - started
        repays = compile is True or (compile == "auto" and seconds > COMPILING)
        # Compiled code wants batches of one shape; to pad more than a third may cost more than to run uncompiled.
        full = repays and fast is not model and left > size * 2 // 3
        batch = range(done, done + min(left, size if full else even(left, size, together)))
        try:
            arguments = channels_last(inputs(batch))
            if full and len(batch) < size:
                arguments = [padded(x, len(x) * size // len(batch)) for x in arguments]
            if measuring:
                with taking(arguments[0]):
                    size, measuring = whole_groups(gpu_batch(model, arguments, precision), together), False
                continue
            if full and fast is None:
                fast = compiled_copy(model, arguments)
            with taking(arguments[0]):
                logits = fast(*arguments) if full and fast else model(*arguments)
        except RuntimeError as error:
            if not wants_memory(error) or len(batch) <= together:
                raise
            size = whole_groups(len(batch) // 2, together)
            continue
        logits = checked_shape(logits, size if full else len(batch))[:left].float()
        done += len(logits)
        yield logits


def first_batch(batch_size: str | int) -> int:
    """Passes in the first batch."""
    return BATCH if batch_size == "auto" else positive("batch_size", batch_size)


def whole_groups(size: int, together: int) -> int:
    """The largest multiple of `together` up to `size`, at least one."""
    return max(1, size // together) * together


def even(left: int, size: int, together: int) -> int:
    """Passes of the next batch where `left` go in batches of about one length, at most `size`.

    So none is of one pass, where that can be had: torch rounds such a batch otherwise than others.
    """
    groups = left // together
    return math.ceil(groups / math.ceil(left / size)) * together


def padded(x: Tensor, length: int) -> Tensor:
    """x with its last row again and again, up to a length."""
    return torch.cat([x, x[-1:].expand(length - len(x), *x.shape[1:])])


def channels_last(arguments: Sequence[Tensor]) -> list[Tensor]:
    """Pictures in the memory layout that convolutions are fastest in."""
    return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in arguments]


def compiled_copy(model: nn.Module, arguments: Sequence[Tensor]) -> nn.Module:
    """A copy of the model, compiled with its weights frozen; the model itself where that cannot be done, said once.

    It is made again when the model has changed.
    """
    now = state_of(model)
    if model not in copies or copies[model][0] != now:
        copies[model] = (now, compiled(model, arguments))
    fast = copies[model][1]
    return model if fast is None else fast


def compiled(model: nn.Module, arguments: Sequence[Tensor]) -> nn.Module | None:
    """A new compiled copy; None, with a warning, where that cannot be done."""
    # Torch says that it looks for a CUDA that may not be there.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
        fast.compile(dynamic=False, options={"freezing": True})
        fast(*arguments)
    except Exception as error:  # no C++ compiler, or a model that cannot be compiled: each has its own error
        if wants_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"the passes run uncompiled, which is slower: {reason}", stacklevel=2)
        return None
    return fast


def state_of(model: nn.Module) -> str:
    """The model's modules, and of each tensor of its weights the sum and the sum of its neighbours' products.

    The one changes with any value, the other also where values change places.
    """
    sums: list[Tensor] = []
    for weights in [*model.parameters(), *model.buffers()]:
        if weights.is_floating_point():
            x = weights.detach().flatten().float()
            wide = torch.float32 if x.device.type == "mps" else torch.float64
            sums += [x.sum(dtype=wide), x[1:].dot(x[:-1]).to(wide)]
    together = [value.to(sums[0]) for value in sums]  # looked at once: a GPU would wait for each look
    return f"{model} {torch.stack(together).tolist() if together else []}"


def gpu_batch(model: nn.Module, arguments: Sequence[Tensor], precision: str) -> int:
    """The passes in a batch that fill half of the GPU's free memory, measured once for a shape of input."""
    known = sizes.setdefault(model, {})
    key = (precision, *arguments[0].shape[1:])
    if key not in known:
        device = arguments[0].device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        passes = len(model(*arguments))
        used = max(torch.cuda.max_memory_allocated(device) - before, 1) / passes
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
        known[key] = int(min(max(free / 2 // used, 1), LARGEST_BATCH))
    return known[key]
