"""The methods: functions from a `ForwardRecord` to weights α (K,) of  L = ReLU(Σ_k α_k A_k)."""

import inspect
from collections.abc import Callable

from torch import Tensor

from iscam.methods.controls import CONTROLS as CONTROLS
from iscam.methods.gradient import cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp
from iscam.methods.score import channel_weights, is_cam, score_cam, ss_cam

#: The seven methods by name.
METHODS: dict[str, Callable[..., Tensor]] = {
    method.__name__: method for method in (cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp, score_cam, ss_cam, is_cam)
}


def options(method: Callable[..., Tensor]) -> dict[str, object]:
    """Names and defaults of the options that a method takes."""
    parameters = list(inspect.signature(method).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        parameters += inspect.signature(channel_weights).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
