"""Opti-CAM: weights that are optimised for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from iscam.capture import call_model, checked_finite, eval_mode, grad_enabled, model_errors
from iscam.errors import InputError
from iscam.maps import active, min_max, upsample, weighted_sum
from iscam.methods.options import OptiOptions
from iscam.record import ForwardRecord


def opti_cam(record: ForwardRecord, options: OptiOptions) -> Tensor:
    r"""Return the weights of Opti-CAM: those whose own map keeps the logit S of the class highest,

    α = softmax(w),  where w maximises  F(w) = S(X ∘ s(up(Σ_k softmax(w)_k A_k))).

    Adam takes `steps` steps from equal weights with the given `learning_rate`. The result is the w with the largest
    F(w) of all steps, so F never ends below that of equal weights.

    F may exceed the logit of the complete image. The map then also marks background that raises the logit.

    Constant channels do not change F. They have weight 0, and the softmax leaves them out.

    Average drop and average increase measure what Opti-CAM optimises. Therefore, they do not compare it fairly with
    other methods.

    Returns weights (K,). Raises `InputError` if the logits carry no gradient to the image.

    Source: Zhang et al. 2023, arXiv 2301.07002. The authors' code normalises the image inside the network, so a masked
    pixel becomes black; here it becomes mean grey, as in all methods of this package. Their code also applies a ReLU to
    A, and returns the weights of the last step, or of an earlier one if F has stopped growing.
    """
    channels = active(record.activations.detach())
    with grad_enabled(), torch.device(record.image.device), eval_mode(record.net.model):
        activations = record.activations.detach()[channels].clone()  # autograd rejects tensors of inference mode
        w = torch.full((len(activations),), 0.5, dtype=torch.float32, requires_grad=True)
        adam = torch.optim.Adam([w], lr=options.learning_rate, maximize=True)
        best, highest = w.detach().clone(), torch.tensor(-torch.inf)
        for _ in range(options.steps):
            logit, w.grad = masked_logit(record, activations, w)
            best = torch.where(logit > highest, w.detach(), best)
            highest = torch.maximum(logit, highest)
            adam.step()
    weights = torch.zeros(len(channels), dtype=torch.float32, device=channels.device)
    return weights.masked_scatter_(channels, best.softmax(0))


def masked_logit(record: ForwardRecord, activations: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Compute F(w), the logit of the image under the map of the weights softmax(w), and its gradient with respect to w.

    `activations` (n, h, w) are the channels to which w (n,) belongs. w requires gradients.
    """
    net = record.net
    total = weighted_sum(w.softmax(0), activations)
    mask = min_max(upsample(total[None], record.image.shape[1:]))
    images = (record.image.clone() * mask)[None].to(net.dtype)
    with model_errors(images):
        logits = checked_finite(net.read_output(call_model(net.model, images), 1))[0].float()
    logit = logits[record.target]
    (gradient,) = torch.autograd.grad(logit, w, allow_unused=True) if logit.requires_grad else (None,)
    if gradient is None:
        raise InputError(
            f"the logits of {type(net.model).__name__} carry no gradient to the image, which opti_cam needs; use a "
            f"score method (score_cam, ss_cam, is_cam)"
        )
    return logit.detach(), gradient
