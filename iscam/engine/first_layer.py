"""Many scalings t x of one image for the price of one first layer."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from iscam.capture import eval_mode
from iscam.model import Network
from iscam.record import ForwardRecord

#: What `scaled` made of each model, as long as the model lives, and the buffers that it has in common with the model:
#: a model that is moved gets new ones.
made: WeakKeyDictionary[nn.Module, tuple[Scaled | None, list[Tensor]]] = WeakKeyDictionary()


class Scaled(nn.Module):
    r"""A model of (x, t): the logits of all t_gn x_g, the first convolution f computed once for each x.

    f is affine with bias b, so f(t x) = t (f(x) - b) + b. `rest` is the model without f. x (G, 3, height, width) and
    t (G, N) give (G N, classes).
    """

    def __init__(self, first: nn.Conv2d, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.rest = first, rest

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        f = self.first(x)[:, None]
        b = torch.zeros_like(f[:1, :, :, :1, :1]) if self.first.bias is None else self.first.bias[:, None, None]
        y = torch.addcmul(b, t[:, :, None, None, None], f - b).to(f)
        return self.rest(y.flatten(0, 1))


def scaled(view: ForwardRecord, t: Tensor) -> Network | None:
    """The view's network as a function of (x, t), if its first layer is a convolution of the image, else None.

    Whether it is, is seen from the logits of the image at 1/2, 1 and the ends of t (N,): a model may clip or rescale
    large inputs.
    """
    model = view.net.model
    buffers = [*model.buffers()]
    if model not in made or not all(map(operator.is_, made[model][1], buffers)):
        made[model] = without_first_layer(model), buffers
    found, _ = made[model]
    if found is None:
        return None
    x, t = view.image, torch.stack([t.new_tensor(0.5), t.new_tensor(1), t.min(), t.max()])
    with torch.inference_mode(), eval_mode(model), eval_mode(found), without_cudnn():
        try:
            same = torch.allclose(found(x[None], t[None]), model(t[:, None, None, None] * x), rtol=1e-3, atol=1e-4)
        except Exception:  # the model does something to its input that is no convolution
            same = False
    return replace(view.net, model=found, layer="first") if same else None


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Convolutions by torch itself: cuDNN's, in TensorFloat-32 on recent GPUs, round more than a comparison allows."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def without_first_layer(model: nn.Module) -> Scaled | None:
    """The model with its first convolution taken out; both halves share the model's weights."""
    tensors = {id(x): x for x in [*model.parameters(), *model.buffers()]}
    try:
        rest = copy.deepcopy(model, tensors)
    except Exception:  # some models cannot be copied
        return None
    for name, module in rest.named_modules():
        if isinstance(module, nn.Conv2d) and name:
            rest.set_submodule(name, nn.Identity())
            return Scaled(module, rest)
    return None
