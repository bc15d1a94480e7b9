"""Options with which the slow methods are fast in a test, and the comparison of maps with a literal reference."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from numpy.testing import assert_allclose

import iscam
from helpers.images import array
from helpers.networks import Case

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


def assert_maps_are_the_equation(reference: ModuleType, case: Case, method: str, options: dict[str, Any]) -> None:
    """Compare the maps of a case with those of the function of the same name in `reference`."""
    maps = iscam.explain(case.net, case.images, case.targets, method, **options)
    for image, target, saliency_map in zip(case.images, case.targets.tolist(), maps, strict=True):
        expected = getattr(reference, method)(case.split, array(image), target, **options)
        assert_allclose(array(saliency_map), expected, atol=1e-4)
    assert maps.max() == 1, "the images would show nothing"
