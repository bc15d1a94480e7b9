"""Tests that need a GPU: the loop does not wait for it, batches fit its memory, and its maps equal the CPU's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

import iscam
from helpers.images import array, smooth_images
from helpers.networks import squeezenet
from iscam.engine.batching import CPU_BATCH, LARGEST_GPU_BATCH
from iscam.engine.first_layer import split_network
from iscam.engine.scoring import PRECISIONS, Scoring, masked_scores
from iscam.record import forward_record

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    # torch warns about its synchronisation debug mode, and its compiler gives advice. Our own warning is an error.
    pytest.mark.filterwarnings("ignore::UserWarning", "error:the passes run uncompiled"),
]

SCORE_METHODS = ("score_cam", "is_cam", "ss_cam")

#: Noise depends on the kind of device, so maps of two devices are compared without it. Opti-CAM's steps amplify
#: rounding errors, so few steps are compared.
WITHOUT_NOISE = {
    "ss_cam": {"sigma": 0.0},
    "smooth_grad_cam_pp": {"sigma": 0.0},
    "smoothgrad": {"sigma": 0.0},
    "rise": {"masks": 300},
    "mask": {"iterations": 5},
    "opti_cam": {"steps": 2},
}


@pytest.fixture
def gpu_network(strict_float32) -> iscam.Network:
    return iscam.Network(squeezenet(), "features.3").to("cuda")


@pytest.fixture
def gpu_image() -> Tensor:
    return smooth_images(1, 64, 60).to("cuda")


class SynchronisationCheck:
    """A network's `output` that forbids waiting for the GPU between the first batch and the last.

    `expected` is the number of batches. While it is None, batches are only counted. A call with at most four inputs
    is not a batch of the loop: it is the record's pass or the check of the shared first layer.
    """

    def __init__(self) -> None:
        self.batches, self.expected = 0, None

    def __call__(self, logits: Tensor) -> Tensor:
        if len(logits) > 4:
            self.batches += 1
            forbidden = self.expected is not None and self.batches < self.expected
            torch.cuda.set_sync_debug_mode("error" if forbidden else "default")
        return logits


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("work", "options"),
    [
        *((method, {"batch_size": 30, "precision": precision}) for method in SCORE_METHODS for precision in PRECISIONS),
        ("insertion", {"pixels_per_step": 4}),
    ],
)
def test_loop_does_not_wait_for_the_gpu(gpu_image, strict_float32, work, options, compiled):
    """torch raises an error if the loop, after its first batch, reads a value that the GPU has yet to compute."""
    check = SynchronisationCheck()
    net = iscam.Network(squeezenet(), "features.3", output=check).to("cuda")
    saliency = torch.rand(1, 64, 60, device="cuda")

    def run() -> Tensor:
        if work == "insertion":
            return iscam.insertion(net, gpu_image, saliency, 3, compile=compiled, **options).scores
        return iscam.METHODS[work](forward_record(net, gpu_image[0], 3), compile=compiled, **options)

    expected = run()  # compiles, measures the batch size and counts the batches
    check.batches, check.expected = 0, check.batches
    try:
        found = run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert check.expected >= 3
    assert check.batches == check.expected
    assert_allclose(array(found), array(expected), rtol=1e-4)


def maps_on_both(net: iscam.Network, images: Tensor, method: str, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The maps of a GPU and of a CPU."""
    if method == "cam":
        net = net.with_layer("features")
    on_cpu = iscam.Network(copy.deepcopy(net.model).cpu(), net.layer)
    found = iscam.explain(net, images, 3, method, **options)
    assert found.device.type == "cuda"
    return found, iscam.explain(on_cpu, images.cpu(), 3, method, **options)


@pytest.mark.parametrize("method", iscam.METHODS)
def test_maps_equal_those_of_the_cpu(gpu_network, gpu_image, method):
    found, expected = maps_on_both(gpu_network, gpu_image, method, WITHOUT_NOISE.get(method, {}))
    assert_allclose(array(found), array(expected), atol=1e-4)


@pytest.mark.parametrize("method", SCORE_METHODS)
def test_compiled_maps_equal_those_of_the_cpu(gpu_network, gpu_image, method):
    options = WITHOUT_NOISE.get(method, {}) | {"compile": True}
    found, expected = maps_on_both(gpu_network, gpu_image, method, options)
    assert_allclose(array(found), array(expected), atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_bf16_changes_maps_a_little(gpu_network, gpu_image, method, compiled):
    options = WITHOUT_NOISE.get(method, {}) | {"compile": compiled}
    full = iscam.explain(gpu_network, gpu_image, 3, method, **options)
    half = iscam.explain(gpu_network, gpu_image, 3, method, precision="bf16", **options)
    assert 0 < (half - full).abs().max() < 0.1


def test_noise_does_not_depend_on_the_batch_size(gpu_network, gpu_image):
    sizes = (7, 200, "auto")
    maps = [iscam.explain(gpu_network, gpu_image, method="ss_cam", samples=3, batch_size=size) for size in sizes]
    assert_allclose(array(maps[0]), array(maps[1]), atol=1e-4)
    assert_allclose(array(maps[0]), array(maps[2]), atol=1e-4)


MANY = 2000


def repeated_images(images: Tensor):
    """Return inputs for any number of passes, in which the images repeat."""
    return lambda passes: (images[torch.arange(passes.start, passes.stop, device="cuda") % len(images)],)


def test_automatic_batch_size_is_measured_once(gpu_network):
    images = smooth_images(8, 224, 224).to("cuda")
    expected = gpu_network(images).softmax(1)[:, 2].repeat(MANY // 8)
    for _ in range(2):
        found = masked_scores(gpu_network, repeated_images(images), MANY, 2)
        assert_allclose(array(found), array(expected), rtol=1e-4)
    ((key, size),) = gpu_network.caches.batch_sizes.items()
    assert key == ("fp32", 3, 224, 224)
    assert CPU_BATCH < size <= LARGEST_GPU_BATCH


def test_out_of_memory_halves_the_batch(gpu_network):
    """There is room for about 300 MB, and one batch of all passes would need over 1 GB."""
    images = smooth_images(8, 224, 224).to("cuda")
    expected = gpu_network(images).softmax(1)[:, 2].repeat(MANY // 8)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 300e6) / total)
    try:
        found = masked_scores(gpu_network, repeated_images(images), MANY, 2, Scoring(batch_size=MANY))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert_allclose(array(found), array(expected), rtol=1e-4)


def test_first_layer_is_shared_with_tensorfloat32(gpu_network, gpu_image, monkeypatch):
    """The comparison that allows sharing must not depend on the rounding of TensorFloat-32."""
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", True)
    record = forward_record(gpu_network, gpu_image[0])
    assert split_network(record, torch.tensor([0.1, 0.7, 8.0], device="cuda")) is not None


def test_memory_does_not_grow_with_the_steps(gpu_network):
    images, peaks = smooth_images(1, 224, 224).to("cuda"), {}
    for steps in (25, 25, 100):  # every batch holds 25 steps of two channels
        torch.cuda.reset_peak_memory_stats()
        iscam.explain(gpu_network, images, steps=steps, batch_size=50)
        peaks[steps] = torch.cuda.max_memory_allocated() / 1e6
    assert abs(peaks[100] - peaks[25]) < 10, peaks
