"""Forward passes of many scaled copies t x of one image that compute the first convolution only once."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from iscam.capture import eval_mode
from iscam.engine.fingerprint import fingerprint
from iscam.model import Network
from iscam.record import ForwardRecord


class SplitModel(nn.Module):
    r"""A model of (x, t) that returns the logits of all t_gn x_g and computes the first convolution f once per x.

    f is affine with bias b, so f(t x) = t (f(x) - b) + b. `rest` is the model without f. For x (G, channels, height,
    width) and t (G, N), the result has the shape (G N, classes).
    """

    def __init__(self, first: nn.Conv2d, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        f = self.first(x)[:, None]
        b = torch.zeros_like(f[:1, :, :, :1, :1]) if self.first.bias is None else self.first.bias[:, None, None]
        y = torch.addcmul(b, t[:, :, None, None, None], f - b).to(f)
        return self.rest(y.flatten(0, 1))


def split_network(record: ForwardRecord, t: Tensor) -> Network | None:
    """Return the record's network as a function of (x, t).

    Returns None if the first layer of the network is not a convolution of the image.

    The split is checked with the logits of the image scaled by 1/2, 1, and the smallest and the largest of t (N,),
    because a model may clip or rescale large inputs.
    """
    net = record.net
    split = cached_split(net)
    if split is None:
        return None
    x, factors = record.image, torch.stack([t.new_tensor(0.5), t.new_tensor(1), t.min(), t.max()])
    with (
        torch.inference_mode(),
        eval_mode(net.model),
        eval_mode(split.model),
        torch.autocast(x.device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=False),  # rounding errors of TF32 exceed the tolerance of the comparison
    ):
        try:
            found = net.read_output(split.model(x[None], factors[None]), len(factors))
            expected = net.read_output(net.model(factors[:, None, None, None] * x), len(factors))
        except Exception:  # the model's first operation on its input is not a convolution
            return None
    return split if agrees(found, expected) else None


def agrees(found: Tensor, expected: Tensor) -> bool:
    """Return True if the logits agree up to rounding, relative to the largest logit."""
    if found.shape != expected.shape:
        return False
    tolerance = max(1e-4, 8 * torch.finfo(expected.dtype).eps) * float(expected.abs().max())
    return bool((found - expected).abs().max() <= tolerance)


def cached_split(net: Network) -> Network | None:
    """Return the network with its first convolution split off. It is split again if the model's structure changes."""
    with net.caches.lock:
        state = fingerprint(net.model, values=False)
        known = net.caches.split_models
        if state not in known:
            known.clear()
            model = split_first_convolution(net.model)
            known[state] = None if model is None else replace(net, model=model, layer="first")
        return known[state]


def split_first_convolution(model: nn.Module) -> SplitModel | None:
    """Split the first convolution off the model. Both parts share the model's weights.

    Returns None if the model cannot be copied or has no convolution.
    """
    rest = copy_with_shared_weights(model)
    if rest is None:
        return None
    for name, module in rest.named_modules():
        if isinstance(module, nn.Conv2d) and name:
            rest.set_submodule(name, nn.Identity())
            return SplitModel(module, rest)
    return None


def copy_with_shared_weights(model: nn.Module) -> nn.Module | None:
    """Return a copy of the model's modules that shares the model's weights. Returns None if it cannot be copied."""
    tensors = {id(x): x for x in [*model.parameters(), *model.buffers()]}
    try:
        return copy.deepcopy(model, tensors)
    except Exception:  # the model holds an object that cannot be copied
        return None
