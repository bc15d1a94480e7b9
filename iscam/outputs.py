"""Extraction of the class scores from the output of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from iscam.errors import InputError

PROBABILITIES = ("softmax", "sigmoid")


def read_logits(returned: Any, images: int, output: Callable[[Any], Tensor] | None, probability: str) -> Tensor:
    """Return the logits (batch, classes) in the output of a model for `images` images.

    Raises InputError if the output contains no logits. The message describes the output.
    """
    logits = class_scores(returned, output)
    if probability == "sigmoid" and logits.ndim == 1:
        logits = logits[:, None]
    single = logits.shape in ((images,), (images, 1))
    if single and probability == "softmax":
        raise InputError(
            f"the model returns one score per image, {tuple(logits.shape)}, whose softmax is always 1; pass "
            f"probability='sigmoid'"
        )
    if logits.ndim != 2 or len(logits) != images or not logits.is_floating_point():
        raise InputError(
            f"the model must return floating point logits (batch, classes), one row per image; it returned "
            f"{logits.dtype} {tuple(logits.shape)} for {images} images"
        )
    return logits


def class_scores(returned: Any, output: Callable[[Any], Tensor] | None) -> Tensor:
    """Return the tensor of class scores in the output of a model.

    Raises InputError if the output contains no such tensor.
    """
    if output is not None:
        try:
            scores: Any = output(returned)
        except Exception as error:  # the user's code
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"output fails on the model's return value, {described(returned)}: {reason}") from error
        if not isinstance(scores, Tensor):
            raise InputError(f"output must return the logits as a tensor, not {type(scores).__name__}")
        return scores
    scores = returned.get("logits") if isinstance(returned, Mapping) else getattr(returned, "logits", returned)
    if not isinstance(scores, Tensor):
        raise InputError(
            f"the model must return logits (batch, classes); it returned {described(returned)}; pass output=lambda "
            f"out: ... that selects the logits"
        )
    return scores


def described(returned: Any) -> str:
    """Describe a model's output in a few words, such as "tuple of (Tensor (1, 10), Tensor (1, 4))"."""
    if isinstance(returned, Tensor):
        return f"Tensor {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"{type(returned).__name__} with keys {', '.join(map(repr, returned))}"
    if isinstance(returned, tuple | list):
        return f"{type(returned).__name__} of ({', '.join(map(described, returned))})"
    return type(returned).__name__


#: Names of autograd operations that select or rearrange values.
REARRANGING = (
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Select",
    "Slice",
    "Clone",
    "Alias",
    "Permute",
    "Transpose",
    "T",
)


def in_unit_range(x: Tensor) -> bool:
    """Return True if all values lie in [0, 1]."""
    return bool(((x >= 0) & (x <= 1)).all())


def kind_of_probabilities(scores: Tensor) -> str | None:
    """Return the kind of probabilities that the scores (batch, classes) in [0, 1] seem to be, or None.

    The result is "softmax" if each row sums to 1, and "sigmoid" if the scores are the output of a sigmoid. The last
    operation in autograd's graph distinguishes a sigmoid from logits that happen to lie in [0, 1].
    """
    if scores.shape[1] > 1 and bool(((scores.detach().float().sum(1) - 1).abs() < 1e-3).all()):
        return "softmax"
    node = scores.grad_fn
    while node is not None and node.name().rstrip("0123456789").removesuffix("Backward") in REARRANGING:
        node = node.next_functions[0][0]
    return "sigmoid" if node is not None and "sigmoid" in node.name().lower() else None
