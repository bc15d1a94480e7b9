"""Options with which the slow methods are fast in a test."""

from __future__ import annotations

from typing import Any

#: Method -> options for few passes.
FEW: dict[str, dict[str, Any]] = {
    "smooth_grad_cam_pp": {"samples": 2},
    "ss_cam": {"samples": 2},
    "is_cam": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 3},
    "rise": {"masks": 40},
    "mask": {"iterations": 3},
}
