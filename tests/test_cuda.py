"""What only a GPU can show: the loop never makes it wait, its batches fit its memory, its maps are the CPU's."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from numpy.testing import assert_allclose

import iscam
from helpers.images import array, smooth_images
from helpers.networks import squeezenet
from iscam.engine.batching import BATCH, LARGEST_BATCH, batch_sizes
from iscam.engine.first_layer import scaled
from iscam.engine.scoring import PRECISIONS, masked_scores, spent
from iscam.record import forward_record

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    # Torch warns of its sync debug mode, and its compiler of what it would like; ours of not compiling counts.
    pytest.mark.filterwarnings("ignore::UserWarning", "error:the passes run uncompiled"),
]


BY_PASSES = ("score_cam", "is_cam", "ss_cam")


@pytest.fixture
def gpu(strict_float32):
    return iscam.Network(squeezenet(), "features.3").to("cuda")


@pytest.fixture
def image():
    return smooth_images(1, 64, 60).to("cuda")


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("work", ["score_cam", "is_cam", "ss_cam", "insertion"])
def test_the_gpu_never_waits_in_the_loop(gpu, image, work, precision, compile, monkeypatch):
    """Torch is asked to fail where the loop, after its first batch, looks at what the GPU has yet to compute."""
    asked = []

    def caught(net, inputs, passes, target, *, together=1, **engine):
        asked.append((net, inputs, passes, target, together))
        return torch.rand(passes, device="cuda")

    monkeypatch.setattr("iscam.methods.score.masked_scores", caught)
    monkeypatch.setattr("iscam.metrics.curves.masked_scores", caught)
    monkeypatch.setattr("iscam.metrics.confidence.masked_scores", caught)
    monkeypatch.setattr("iscam.methods.score.MANY", 0)
    if work == "insertion":
        iscam.insertion(gpu, image, torch.rand(1, 64, 60, device="cuda"), pixels_per_step=40)
    else:
        iscam.METHODS[work](forward_record(gpu, image[0]))
    net, inputs, passes, target, together = asked[0]

    def watched(batch):
        """With the first batch compiled code looks at the weights, after the last the scores are looked at."""
        torch.cuda.set_sync_debug_mode("error" if batch.start > 0 and batch.stop < passes else "default")
        return inputs(batch)

    def run(inputs):
        options = {"precision": precision, "compile": compile, "batch_size": 30, "together": together}
        return masked_scores(net, inputs, passes, target, **options)

    expected = run(inputs)  # compiles
    try:
        found = run(watched)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert passes > 60
    assert_allclose(array(found), array(expected), rtol=1e-4)


@pytest.mark.parametrize("method, compile", [*product(iscam.METHODS, [False]), *product(BY_PASSES, [True])])
def test_maps_are_those_of_the_cpu(gpu, image, method, compile):
    """But for noise, of which each kind of device draws its own."""
    options = {"compile": compile} if method in BY_PASSES else {}
    options |= {"sigma": 0} if method in ("ss_cam", "smooth_grad_cam_pp") else {}
    on_cpu = iscam.Network(copy.deepcopy(gpu.model).cpu(), gpu.layer)
    target = torch.tensor([3])
    if method == "cam":
        gpu, on_cpu = (iscam.Network(net.model, "features") for net in (gpu, on_cpu))
    found = iscam.explain(gpu, image, target, method, **options)
    expected = iscam.explain(on_cpu, image.cpu(), target, method, **options)
    assert found.device.type == "cuda"
    assert_allclose(array(found), array(expected), atol=1e-4)
    if method in BY_PASSES:
        half = iscam.explain(gpu, image, target, method, precision="bf16", **options)
        assert 0 < (half - found).abs().max() < 0.1


def test_noise_is_fixed_by_its_key_whatever_the_batch(gpu, image):
    maps = [iscam.explain(gpu, image, method="ss_cam", samples=3, batch_size=size) for size in (7, 200, "auto")]
    assert_allclose(array(maps[0]), array(maps[1]), atol=1e-4)
    assert_allclose(array(maps[0]), array(maps[2]), atol=1e-4)


def test_the_batch_is_measured_and_want_of_memory_halves_it(gpu):
    """With room for about 300 MB, where a batch of all passes would take over 1 GB."""
    images = smooth_images(8, 224, 224).to("cuda")
    many, inputs = 2000, lambda passes: (images[torch.arange(passes.start, passes.stop, device="cuda") % 8],)
    expected = gpu(images).softmax(1)[:, 2].repeat(many // 8)
    assert_allclose(array(masked_scores(gpu, inputs, many, 2)), array(expected), rtol=1e-4)
    ((key, size),) = batch_sizes[gpu.model].items()
    assert key == ("fp32", 3, 224, 224) and BATCH < size <= LARGEST_BATCH
    torch.cuda.empty_cache()
    everything = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 300e6) / everything)
    try:
        found = masked_scores(gpu, inputs, many, 2, batch_size=many)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert_allclose(array(found), array(expected), rtol=1e-4)


def test_the_time_that_a_model_has_run_is_the_gpus(gpu, image):
    """A GPU takes work and returns at once: what counts is when it is done."""
    many = smooth_images(1, 224, 224).to("cuda").expand(512, -1, -1, -1).contiguous()
    run = lambda: masked_scores(gpu, lambda passes: (many,), 512, 2, batch_size=512)  # noqa: E731
    run()
    before = spent[gpu.model]
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    assert spent[gpu.model] - before >= 0.8e-3 * start.elapsed_time(end)


def test_the_first_layer_is_shared_in_tensorfloat32_too(gpu, image, monkeypatch):
    """Whose rounding, were it in the check, would look as if the model did not allow it."""
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", True)
    assert scaled(forward_record(gpu, image[0]), torch.tensor([0.1, 0.7, 8.0], device="cuda")) is not None


def test_memory_is_the_same_for_few_steps_and_many(gpu, monkeypatch):
    monkeypatch.setattr("iscam.methods.score.MANY", 0)
    image, peaks = smooth_images(1, 224, 224).to("cuda"), {}
    for steps in (25, 25, 100):  # all in batches of two images' 25 steps
        torch.cuda.reset_peak_memory_stats()
        iscam.explain(gpu, image, steps=steps, batch_size=50, compile=False)
        peaks[steps] = torch.cuda.max_memory_allocated() / 1e6
    assert abs(peaks[100] - peaks[25]) < 10, peaks
