"""The methods with the settings of the authors' notebook."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.maps import weighted_map
from iscam.methods.gradient import gradient, plus_plus_weights
from iscam.methods.options import IsCamOptions, SsCamOptions
from iscam.methods.score import is_cam, ss_cam
from iscam.model import Network, check_images
from iscam.record import ForwardRecord, forward_record
from iscam.rng import noise
from iscam.validation import check_int, check_non_negative

#: Maximum exponent of exp(S), because float32 overflows at about e^88.
LARGEST_EXPONENT = 80.0


def smooth_grad_cam_pp(record: ForwardRecord, *, samples: int = 35, std: float = 4.0, seed: int = 0) -> Tensor:
    r"""Return the weights of Smooth Grad-CAM++ as coded,  α_k = Σ_ij a_kij ReLU(exp(S_N) g_kij).

    The factors are  a = ḡ² / (2 ḡ² + Σ_ab A_kab ḡ³),  where ḡ² and ḡ³ are the means of g² and g³ over `samples` noisy
    copies X + ε_n. The gradient of each copy is that of the largest logit of the copy. g and A (K, h, w) belong to the
    clean image, S_N is the largest logit of the last copy, and ε_n has standard deviation `std` in normalised space.

    Returns weights (K,). The canonical method scales the noise with the range of the image (0.15 of it), uses the class
    of the clean image for every copy, and averages g as well. exp(S_N) is a common factor of all channels, which the
    min-max scaling of the map removes. The exponent is limited to `LARGEST_EXPONENT`.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, SmoothGradCAMpp.
    """
    samples, std = check_int("samples", samples), check_non_negative("std", std)
    g = gradient(record)
    g2, g3 = torch.zeros_like(g), torch.zeros_like(g)
    for n in range(samples):
        noisy = forward_record(record.net, record.image + std * noise(record.image, seed, n))
        g_n = gradient(noisy)
        g2, g3 = g2 + g_n**2 / samples, g3 + g_n**3 / samples
    factor = noisy.logits.max().detach().clamp(max=LARGEST_EXPONENT).exp()
    return plus_plus_weights(record.activations.detach(), factor * g, g2, g3)


#: The methods whose settings differ from the canonical settings: IS-CAM with 10 steps (15 in the paper's tables),
#: SS-CAM with 35 noisy copies (instead of 15), and the Smooth Grad-CAM++ above.
#: Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb.
METHODS: dict[str, Callable[[ForwardRecord], Tensor]] = {
    "smooth_grad_cam_pp": smooth_grad_cam_pp,
    "ss_cam": partial(ss_cam, options=SsCamOptions(samples=35)),
    "is_cam": partial(is_cam, options=IsCamOptions(steps=10)),
}


def explain(net: Network, images: Tensor, method: str) -> Tensor:
    """Compute the maps (batch, height, width) in [0, 1] of a method in `METHODS`, for the predicted class.

    Only the settings of the method differ from `iscam.explain`.

    Raises InputError if the notebook has no settings for the method.
    """
    if method not in METHODS:
        raise InputError(f"the notebook has no settings for {method!r}; methods with settings: {', '.join(METHODS)}")
    records = [forward_record(net, image) for image in check_images(net, images)]
    maps = [weighted_map(METHODS[method](r), r.activations.detach(), r.image.shape[1:]) for r in records]
    return torch.stack(maps)
