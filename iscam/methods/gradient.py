r"""Weights from activations and gradients: CAM, Grad-CAM, Grad-CAM++ and Smooth Grad-CAM++.

Throughout, A is the layer's output (K, h, w), S the logit of the explained class and g = dS/dA.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iscam.capture import grad_enabled
from iscam.errors import InputError
from iscam.maps import to_float64
from iscam.record import ForwardRecord, forward_record
from iscam.rng import noise
from iscam.validation import check_int, check_non_negative


def cam(view: ForwardRecord) -> Tensor:
    r"""CAM: the class's row of the last linear layer,  α_k = w_k.

    It is defined for a network that ends in global average pooling and one linear (or 1x1 convolution) layer, in
    either order; a ReLU between a convolution and the pooling (SqueezeNet) is accepted. The head is found by its
    numbers: pooled A times the weights must give the network's own logits, else `InputError`.

    Returns weights (K,). Source: Zhou et al. 2016, arXiv 1512.04150; equation 2 of the IS-CAM paper.
    """
    for module in reversed(list(view.net.model.modules())):
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[:2] == (
            len(view.logits),
            len(view.activations),
        ):
            weight = module.weight.detach().flatten(1)  # (classes, K)
            if weight.shape[1] == len(view.activations) and explains_logits(view, weight, module.bias):
                return weight[view.target].to(view.activations)
    raise InputError(
        f"cam needs a head of global average pooling and one linear (or 1x1 convolution) layer behind "
        f"{view.net.layer!r}, which {type(view.net.model).__name__} does not have; use grad_cam, which needs none"
    )


def explains_logits(view: ForwardRecord, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether pooling and this linear map, with or without a ReLU between them, give the logits."""
    logits, activations = view.logits.detach(), view.activations.detach()
    class_maps = torch.einsum("ck,khw->chw", to_float64(weight), to_float64(activations))
    if bias is not None:
        class_maps = class_maps + to_float64(bias.detach())[:, None, None]
    heads = (class_maps.mean((1, 2)), class_maps.relu().mean((1, 2)))
    rounding = max(1e-3, 4 * torch.finfo(logits.dtype).eps)
    return any(torch.allclose(head, to_float64(logits), rtol=rounding, atol=rounding) for head in heads)


def grad_cam(view: ForwardRecord) -> Tensor:
    r"""Grad-CAM: the spatial mean of the gradient,  α_k = 1/(hw) Σ_ij g_kij.

    Returns weights (K,). Source: Selvaraju et al. 2017, arXiv 1610.02391; equation 3 of the IS-CAM paper, which
    writes Y for the score that is differentiated: here the logit.
    """
    return gradient(view).mean((1, 2))


def grad_cam_pp(view: ForwardRecord) -> Tensor:
    r"""Grad-CAM++:  α_k = Σ_ij a_kij ReLU(g_kij),  a_kij = g²_kij / (2 g²_kij + Σ_ab A_kab g³_kij), 0 where g = 0.

    This is the closed form of the paper for the score exp(S), whose common factor exp(S) is dropped: the map's min-max
    removes it, and it overflows. A denominator of 0 gives the pixel the weight 0.

    Returns weights (K,). Source: Chattopadhay et al. 2018, arXiv 1710.11063, equations 10, 11 and 19.
    """
    g = gradient(view)
    return plus_plus_weights(view.activations.detach(), g, g**2, g**3)


def smooth_grad_cam_pp(view: ForwardRecord, *, samples: int = 15, sigma: float = 0.15, seed: int = 0) -> Tensor:
    r"""Smooth Grad-CAM++: Grad-CAM++ with g, g² and g³ each averaged over noisy copies X + ε_n of the image.

    `samples`: how many copies; `sigma`: the noise's standard deviation as a fraction of the image's range
    max X - min X; the noise of copy n is fixed by (`seed`, n). The class is the clean image's in every copy, and A is
    the clean image's.

    Returns weights (K,). Source: Omeiza et al. 2019, arXiv 1908.01224. Differs from the authors' IS-CAM notebook, which
    takes noise of standard deviation 4 whatever the range and each noisy copy's own top class.
    """
    samples, sigma = check_int("samples", samples), check_non_negative("sigma", sigma)
    seed = check_int("seed", seed, minimum=0)
    std = sigma * (view.image.max() - view.image.min())
    samples = samples if std > 0 else 1  # without noise all copies are the same
    moments = torch.zeros((), device=view.image.device)
    for n in range(samples):
        noisy = view.image + std * noise(view.image, seed, n)
        g = gradient(forward_record(view.net, noisy, view.target))
        moments = moments + torch.stack([g, g**2, g**3]) / samples
    return plus_plus_weights(view.activations.detach(), *moments)


def gradient(view: ForwardRecord) -> Tensor:
    """g = dS/dA, (K, h, w)."""
    if not view.logits.requires_grad:
        raise InputError(
            f"the logits of {type(view.net.model).__name__} carry no gradient to layer {view.net.layer!r}: its forward "
            f"turns gradients off; use a score method (score_cam, ss_cam, is_cam)"
        )
    with grad_enabled():
        score = view.logits[view.target]
        (g,) = torch.autograd.grad(score, view.activations, retain_graph=True, allow_unused=True)
    if g is None:
        raise InputError(
            f"the class score does not depend on layer {view.net.layer!r}: choose a layer on the way to it"
        )
    return g.to(torch.promote_types(g.dtype, torch.float32))  # half holds neither its third power nor sums over A


def plus_plus_weights(activations: Tensor, g: Tensor, g2: Tensor, g3: Tensor) -> Tensor:
    """Σ_ij a ReLU(g) of Grad-CAM++, from the first three powers of the gradient, (K,)."""
    denominator = 2 * g2 + activations.to(g2).sum((1, 2), keepdim=True) * g3
    a = torch.where(denominator == 0, 0, g2 / denominator)
    return (a * g.relu()).sum((1, 2))
