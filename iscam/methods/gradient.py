r"""Weights from activations and gradients: CAM, Grad-CAM, Grad-CAM++, Smooth Grad-CAM++, Layer-CAM and XGrad-CAM.

In all docstrings, A is the layer's output (K, h, w), S is the logit of the explained class, and g = dS/dA.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iscam.errors import InputError
from iscam.maps import to_float64
from iscam.methods.options import NoOptions, SmoothOptions
from iscam.record import IMAGES_PER_PASS, ForwardRecord, layer_gradients, records_in_batches
from iscam.rng import noises


def cam(record: ForwardRecord, options: NoOptions) -> Tensor:
    r"""Return the weights of CAM: the class's row of the last linear layer,  α_k = w_k.

    CAM is defined for a network that ends in global average pooling and one linear (or 1x1 convolution) layer, in
    either order. A ReLU between the convolution and the pooling (SqueezeNet) is accepted. The head is checked
    numerically: the pooled A times the weights must give the logits of the network.

    Returns weights (K,). Raises `InputError` if the network has no such head.

    Source: Zhou et al. 2016, arXiv 1512.04150; equation 2 of the IS-CAM paper.
    """
    shape = (len(record.logits), len(record.activations))
    for module in reversed(list(record.net.model.modules())):
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[:2] == shape:
            weight = module.weight.detach().flatten(1)  # (classes, K) for a 1x1 convolution
            if weight.shape == shape and explains_logits(record, weight, module.bias):
                return weight[record.target].to(record.activations)
    raise InputError(
        f"cam needs global average pooling and one linear (or 1x1 convolution) layer after {record.net.layer!r}, "
        f"which {type(record.net.model).__name__} does not have; use grad_cam, which works for any network"
    )


def explains_logits(record: ForwardRecord, weight: Tensor, bias: Tensor | None) -> bool:
    """Return True if pooling and this linear map, with or without a ReLU between them, reproduce the logits."""
    logits = to_float64(record.logits.detach())
    class_maps = torch.einsum("ck,khw->chw", to_float64(weight), to_float64(record.activations.detach()))
    if bias is not None:
        class_maps = class_maps + to_float64(bias.detach())[:, None, None]
    rounding = max(1e-4, 4 * torch.finfo(record.logits.dtype).eps)
    tolerance = rounding * float(logits.abs().max())  # relative, so that tiny logits do not match by accident
    heads = (class_maps.mean((1, 2)), class_maps.relu().mean((1, 2)))
    return tolerance > 0 and any(torch.allclose(head, logits, rtol=rounding, atol=tolerance) for head in heads)


def grad_cam(record: ForwardRecord, options: NoOptions) -> Tensor:
    r"""Return the weights of Grad-CAM: the spatial mean of the gradient,  α_k = 1/(hw) Σ_ij g_kij.

    Returns weights (K,).

    Source: Selvaraju et al. 2017, arXiv 1610.02391; equation 3 of the IS-CAM paper, which differentiates a score Y.
    Here Y is the logit. The map is upsampled before the ReLU. pytorch-grad-cam and torch-cam apply the ReLU first, so
    their maps differ if the layer's output has negative values (EfficientNet, ConvNeXt).
    """
    return gradient(record).mean((1, 2))


def grad_cam_pp(record: ForwardRecord, options: NoOptions) -> Tensor:
    r"""Return the weights of Grad-CAM++,  α_k = Σ_ij a_kij ReLU(g_kij).

    The factors are  a_kij = g²_kij / (2 g²_kij + Σ_ab A_kab g³_kij),  and 0 where g = 0.

    This is the paper's closed form for the score exp(S). The common factor exp(S) is dropped, because it overflows and
    because the min-max scaling of the map removes it. If the denominator is 0, the position has the weight 0.

    Returns weights (K,). Source: Chattopadhay et al. 2018, arXiv 1710.11063, equations 10, 11 and 19.
    """
    g = gradient(record)
    return plus_plus_weights(record.activations.detach(), g, g**2, g**3)


def smooth_grad_cam_pp(record: ForwardRecord, options: SmoothOptions) -> Tensor:
    r"""Return the weights of Smooth Grad-CAM++: Grad-CAM++ with g, g² and g³ each averaged over noisy copies X + ε_n.

    `samples` is the number of copies. `sigma` is the noise's standard deviation as a fraction of the image's range
    max X - min X. The noise of copy n depends only on (`seed`, n). Every copy is scored for the class of the clean
    image, and A is the layer's output for the clean image.

    Returns weights (K,).

    Source: Omeiza et al. 2019, arXiv 1908.01224. The IS-CAM authors' notebook uses noise of standard deviation 4 for
    every image, and the top class of each noisy copy.
    """
    std = options.sigma * (record.image.max() - record.image.min())
    samples = options.samples if std > 0 else 1  # without noise all copies are equal
    moments = torch.zeros((), device=record.image.device)
    for start in range(0, samples, IMAGES_PER_PASS):
        keys = [(options.seed, n) for n in range(start, min(start + IMAGES_PER_PASS, samples))]
        noisy = record.image + std * noises(record.image, keys)
        for copy in records_in_batches(record.net, noisy, [record.target] * len(keys)):
            g = gradient(copy)
            moments = moments + torch.stack([g, g**2, g**3]) / samples
    return plus_plus_weights(record.activations.detach(), *moments)


def layer_cam(record: ForwardRecord, options: NoOptions) -> Tensor:
    r"""Return the weights of Layer-CAM: the positive part of the gradient at each position,  α_kij = ReLU(g_kij).

    Returns weights (K, h, w). Raises `InputError` if the logits carry no gradient to the layer.

    Source: Jiang et al. 2021, doi 10.1109/TIP.2021.3089943, for one layer. The paper also combines the maps of several
    layers: it scales those of the first layers with tanh and takes the maximum of all. Here `layer` is a single layer.
    """
    return gradient(record).relu()


def xgrad_cam(record: ForwardRecord, options: NoOptions) -> Tensor:
    r"""Return the weights of XGrad-CAM: the mean of the gradient, weighted by the activations,

    α_k = Σ_ij A_kij g_kij / Σ_ij A_kij.

    Where the gradient is constant over the positions, XGrad-CAM equals Grad-CAM. If the activations of a channel sum to
    0, its weight is 0. The sum may be close to 0 in a layer with negative activations (before a ReLU, or in a vision
    transformer). The weights are then large and hardly mean anything.

    Returns weights (K,). Raises `InputError` if the logits carry no gradient to the layer.

    Source: Fu et al. 2020, arXiv 2008.02312. The authors' code, pytorch-grad-cam and torch-cam add 1e-6,
    1e-7 and 1e-8 to the denominator.
    """
    g = gradient(record)
    activations = record.activations.detach().to(g)
    total = activations.sum((1, 2))
    return torch.where(total == 0, 0, (activations * g).sum((1, 2)) / total)


def gradient(record: ForwardRecord) -> Tensor:
    """Compute the gradient g = dS/dA, (K, h, w), in float32 or better.

    Raises `InputError` if the logits carry no gradient or do not depend on the layer.
    """
    name, layer = type(record.net.model).__name__, record.net.layer
    if not record.logits.requires_grad:
        raise InputError(
            f"the logits of {name} carry no gradient to layer {layer!r}: its forward pass turns gradients off; use a "
            f"score method (score_cam, ss_cam, is_cam)"
        )
    g = record.of_batch(layer_gradients)
    if g is None:
        raise InputError(
            f"the class score does not depend on layer {layer!r}; choose a layer on the path from the image to the "
            "class score"
        )
    return g.to(torch.promote_types(g.dtype, torch.float32))  # float16 overflows in g³ and in sums over A


def plus_plus_weights(activations: Tensor, g: Tensor, g2: Tensor, g3: Tensor) -> Tensor:
    """Compute Σ_ij a ReLU(g) of Grad-CAM++, (K,), from the first three powers of the gradient."""
    denominator = 2 * g2 + activations.to(g2).sum((1, 2), keepdim=True) * g3
    a = torch.where(denominator == 0, 0, g2 / denominator)
    return (a * g.relu()).sum((1, 2))
