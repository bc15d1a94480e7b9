"""The loop of forward passes: every way of running it gives the same scores."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
import threading

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers.images import array, smooth_images
from helpers.networks import CASES, bias_free, pooled
from iscam.engine.fingerprint import fingerprint, hash_on_device
from iscam.engine.first_layer import split_network
from iscam.engine.scoring import Scoring, masked_scores
from iscam.errors import OUT_OF_MEMORY_MESSAGES
from iscam.record import forward_record

COMPILED = Scoring(compile=True, batch_size=4)


def batch_of(images: Tensor):
    """Pass p is image p."""
    return lambda passes: (images[passes.start : passes.stop],)


def probabilities(net: iscam.Network, images: Tensor, target: int) -> Tensor:
    return net(images).softmax(1)[:, target]


@pytest.fixture
def compiled_models(monkeypatch):
    """`torch.compile` that compiles nothing, and the list of the models that it was asked to compile."""
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append(self))
    return asked


# ------------------------------------------------------------------------------------------------------------ compiling


@pytest.mark.parametrize("passes", [1, 3, 4, 5, 6, 7, 8])
def test_padded_batches_give_the_same_scores(bias_free_case, compiled_models, passes):
    """Compiled batches are padded to one shape; a small rest runs eagerly."""
    images = smooth_images(8, 20, 16)
    found = masked_scores(bias_free_case.net, batch_of(images), passes, 2, COMPILED)
    assert_allclose(array(found), array(probabilities(bias_free_case.net, images[:passes], 2)), rtol=1e-5)
    assert len(compiled_models) == (passes > 2)


def test_compiled_scores_equal_eager_scores():
    """This test uses the real compiler. Without one, the call warns and runs eagerly."""
    net, images = iscam.Network(pooled(), "last"), smooth_images(6, 25, 31)
    expected = masked_scores(net, batch_of(images), 6, 1)
    found = masked_scores(net, batch_of(images), 6, 1, COMPILED)
    assert_allclose(array(found), array(expected), rtol=1e-5)


def test_compiled_scores_follow_the_hooks_of_submodules():
    """This test uses the real compiler, which reuses its code for models of the same class."""
    net, images = iscam.Network(pooled(), "last"), smooth_images(4, 25, 31)
    for hook in (None, lambda module, args, output: output.flip(1), lambda module, args, output: output * 2, None):
        handle = net.model.head.register_forward_hook(hook) if hook else None
        for size in (4, 2):
            found = masked_scores(net, batch_of(images), 4, 1, Scoring(compile=True, batch_size=size))
            assert_allclose(array(found), array(probabilities(net, images, 1)), rtol=1e-5)
        if handle:
            handle.remove()


def test_nothing_compiles_unless_asked(bias_free_case, compiled_models):
    """The result of a call never depends on how long the model has run before."""
    images = smooth_images(8, 20, 16)
    for _ in range(3):
        masked_scores(bias_free_case.net, batch_of(images), 8, 2, Scoring(batch_size=4))
    iscam.explain(bias_free_case.net, images, method="score_cam")
    assert not compiled_models


def scale_weight(model):
    model.head.weight.data.mul_(1.001)


def swap_values(model):
    model.head.weight.data.copy_(model.head.weight.flip(0))


def set_attribute(model):
    model.temperature = 2.0


def add_hook(model):
    model.register_forward_hook(lambda module, args, output: output.flip(1))


def replace_forward(model):
    model.forward = lambda x: model.head(model.features(x).flatten(1)) * 2


def replace_module(model):
    model.head = nn.Linear(160, 5)


def change_setting(model):
    model.settings.scale = 2


def change_callable(model):
    model.callable.scale = 2


def change_slot(model):
    model.slotted.scale = 2


def change_bound_object(model):
    model.bound.__self__.scale = 2


def change_argument(model):
    model.partial.args[0].scale = 2


CHANGES = [
    scale_weight,
    swap_values,
    set_attribute,
    add_hook,
    replace_forward,
    replace_module,
    change_setting,
    change_callable,
    change_slot,
    change_bound_object,
    change_argument,
]


class Settings:
    scale = 1


class Scale(Settings):
    def __call__(self, x):
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)


def add_attributes(model: nn.Module) -> None:
    model.temperature, model.settings, model.callable, model.slotted = 1.0, Settings(), Scale(), Slotted()
    model.bound, model.partial = Scale().__call__, functools.partial(print, Settings())


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_model_is_compiled_again(bias_free_case, compiled_models, change):
    add_attributes(bias_free_case.net.model)
    images = smooth_images(4, 20, 16)
    for _ in range(2):
        masked_scores(bias_free_case.net, batch_of(images), 4, 2, COMPILED)
    assert len(compiled_models) == 1
    change(bias_free_case.net.model)
    found = masked_scores(bias_free_case.net, batch_of(images), 4, 2, COMPILED)
    assert len(compiled_models) == 2
    assert_allclose(array(found), array(probabilities(bias_free_case.net, images, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor([1.0, 2.0]), torch.arange(7), torch.rand(5, 3).half(), torch.tensor([True, False, False])],
    ids=["two floats", "integers", "float16", "bool"],
)
def test_fingerprint_sees_the_order_of_values(tensor):
    model = nn.Module()
    model.register_buffer("values", tensor.clone())
    before = fingerprint(model)
    assert fingerprint(model) == before
    model.values.copy_(tensor.flip(0))
    assert fingerprint(model) != before


def test_hash_on_a_device_sees_the_order_of_values():
    values = torch.rand(100)
    assert hash_on_device(values) == hash_on_device(values.clone())
    swapped = values.clone()
    swapped[[3, 71]] = values[[71, 3]]
    assert len({hash_on_device(x) for x in (values, swapped, values.flip(0), values + 1e-7)}) == 4


def test_fingerprint_ignores_the_mode():
    model = pooled()
    before = fingerprint(model.eval())
    assert fingerprint(model.train()) == before


def test_clear_caches_compiles_again(bias_free_case, compiled_models):
    images = smooth_images(4, 20, 16)
    masked_scores(bias_free_case.net, batch_of(images), 4, 2, COMPILED)
    bias_free_case.net.clear_caches()
    masked_scores(bias_free_case.net, batch_of(images), 4, 2, COMPILED)
    assert len(compiled_models) == 2


def test_a_model_that_cannot_compile_runs_eagerly(bias_free_case, monkeypatch):
    def fail(self, **options):
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr(nn.Module, "compile", fail)
    images = smooth_images(9, 20, 16)
    scoring = Scoring(compile=True, batch_size=5)
    with pytest.warns(UserWarning, match="run uncompiled, which is slower: RuntimeError: no compiler$") as warned:
        found = masked_scores(bias_free_case.net, batch_of(images), 9, 2, scoring)
        masked_scores(bias_free_case.net, batch_of(images), 9, 2, scoring)
    assert len(warned) == 1
    assert_allclose(array(found), array(probabilities(bias_free_case.net, images, 2)), rtol=1e-5)


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError("DefaultCPUAllocator: can't allocate memory")])
@pytest.mark.parametrize("group_size", [1, 3])
def test_out_of_memory_halves_the_batch(bias_free_case, group_size, error):
    images, lengths = smooth_images(18, 20, 16), []

    def inputs(passes):
        lengths.append(len(passes))
        if len(passes) > 6:
            raise error
        return (images[passes.start : passes.stop],)

    found = masked_scores(bias_free_case.net, inputs, 18, 2, Scoring(batch_size=16), group_size)
    assert_allclose(array(found), array(probabilities(bias_free_case.net, images, 2)), rtol=1e-5)
    assert all(length % group_size == 0 for length in lengths)
    assert max(lengths) <= 16


@pytest.mark.parametrize("group_size", [1, 3])
@pytest.mark.parametrize("passes", [3, 9, 12, 18, 27, 30, 39])
def test_batches_have_nearly_equal_sizes(bias_free_case, passes, group_size):
    images, lengths = smooth_images(passes, 20, 16), []

    def inputs(span):
        lengths.append(len(span))
        return (images[span.start : span.stop],)

    masked_scores(bias_free_case.net, inputs, passes, 2, Scoring(batch_size=6), group_size)
    assert sum(lengths) == passes
    assert max(lengths) <= 6
    assert max(lengths) - min(lengths) <= group_size


def test_out_of_memory_for_one_group_is_raised(bias_free_case):
    def inputs(passes):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        masked_scores(bias_free_case.net, inputs, 6, 2, group_size=3)


@pytest.mark.parametrize("message", OUT_OF_MEMORY_MESSAGES)
def test_every_out_of_memory_message_halves_the_batch(bias_free_case, message):
    images, room = smooth_images(8, 20, 16), 4

    def limit(model, args):
        if len(args[0]) > room:
            raise RuntimeError(f"GET was {message}: 9 GB")

    expected = probabilities(bias_free_case.net, images, 2)
    bias_free_case.net.model.register_forward_pre_hook(limit)
    found = masked_scores(bias_free_case.net, batch_of(images), 8, 2, Scoring(batch_size=8))
    assert_allclose(array(found), array(expected), rtol=1e-5)
    room = 0
    with pytest.raises(torch.OutOfMemoryError, match=message):
        masked_scores(bias_free_case.net, batch_of(images), 8, 2)


def test_each_pass_may_have_its_own_class(bias_free_case):
    images, targets = smooth_images(5, 20, 16), torch.tensor([0, 4, 2, 2, 1])
    found = masked_scores(bias_free_case.net, batch_of(images), 5, targets, Scoring(batch_size=2))
    assert_allclose(
        array(found), array(bias_free_case.net(images).softmax(1).gather(1, targets[:, None])[:, 0]), rtol=1e-5
    )


@pytest.mark.parametrize("curve", [iscam.insertion, iscam.deletion])
def test_curves_of_a_batch_equal_single_curves(pooled_case, curve):
    maps = torch.rand(3, 25, 31, generator=torch.Generator().manual_seed(1))
    batch = curve(pooled_case.net, pooled_case.images, maps, pooled_case.targets, 50)
    for i in range(3):
        single = curve(
            pooled_case.net, pooled_case.images[i : i + 1], maps[i : i + 1], pooled_case.targets[i : i + 1], 50
        )
        assert_allclose(array(batch.scores[i]), array(single.scores[0]), atol=1e-6)
        assert_allclose(float(batch.auc[i]), float(single.auc[0]), atol=1e-6)


def test_float32_ignores_the_callers_autocast(bias_free_case):
    expected = iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets, "is_cam", steps=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = iscam.explain(bias_free_case.net, bias_free_case.images, bias_free_case.targets, "is_cam", steps=3)
    assert_allclose(array(found), array(expected), atol=1e-5)


# ------------------------------------------------------------------------------- the first convolution once for all t

ONCE = torch.ones(1)


@pytest.mark.parametrize("schedule", ["cumulative", "linear"])
@pytest.mark.parametrize("name", CASES)
def test_shared_first_layer_gives_the_same_weights(name, schedule):
    """150 steps are enough passes to share the first convolution; batches of one pass cannot share it."""
    case, options = CASES[name](), {"steps": 150, "schedule": schedule, "channels": 32}
    record = forward_record(case.net, case.images[0], int(case.targets[0]))
    shared = iscam.METHODS["is_cam"](record, **options)
    expected = iscam.METHODS["is_cam"](record, batch_size=1, **options)
    assert case.net.caches.split_models
    assert_allclose(array(shared), array(expected), atol=1e-5)


@pytest.mark.parametrize("steps, size", [(150, 4), (150, 5), (150, "auto"), (151, "auto"), (150, 1)])
def test_no_batch_is_larger_than_asked(pooled_case, steps, size):
    lengths = []
    pooled_case.net.model.head.register_forward_hook(lambda module, args, output: lengths.append(len(output)))
    iscam.explain(pooled_case.net, pooled_case.images[:1], pooled_case.targets[:1], steps=steps, batch_size=size)
    assert max(lengths) <= (32 if size == "auto" else max(size, 4))  # 4: the check of the split


def test_split_model_equals_the_model_at_every_t(pooled_case):
    record = forward_record(pooled_case.net, pooled_case.images[0])
    t = torch.tensor([[0.0, 0.3, 1.0, 8.0], [2.0, 0.5, 0.0, 1.0]])
    with torch.no_grad():
        found = split_network(record, t[0]).model(pooled_case.images[:2], t)
    expected = [pooled_case.split.logits(float(s) * array(pooled_case.images[i])) for i in range(2) for s in t[i]]
    assert_allclose(array(found), expected, atol=1e-4)


def test_split_model_follows_the_weights(pooled_case):
    record = forward_record(pooled_case.net, pooled_case.images[0])
    model, x = pooled_case.net.model, pooled_case.images[:1]
    found = split_network(record, ONCE).model
    with torch.no_grad():
        model.first[0].weight.mul_(1.5)
        assert_allclose(array(found(x, torch.ones(1, 1))), array(model(x)), atol=1e-5)


def test_split_model_is_made_again_after_a_change(pooled_case):
    record = forward_record(pooled_case.net, pooled_case.images[0])
    first = split_network(record, ONCE)
    assert split_network(record, ONCE) is first
    pooled_case.net.model.head = nn.Linear(8, 5)
    again = split_network(record, ONCE)
    assert again is not first
    assert_allclose(
        array(again.model(pooled_case.images[:1], torch.ones(1, 1))),
        array(pooled_case.net(pooled_case.images[:1])),
        atol=1e-5,
    )


class Shifting(nn.Module):
    """The convolution's input is not the image, so its output is not affine in t with the convolution's own bias."""

    def __init__(self, gain: float = 1.0):
        super().__init__()
        self.model, self.gain = bias_free(), gain

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.abs() - x.mean()) * self.gain


class Clipping(nn.Module):
    """Clips large values; this is visible only for a large t."""

    def __init__(self):
        super().__init__()
        self.model = bias_free()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.clamp(-5, 5))


class Pooling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize("gain", [1.0, 1e-5])
def test_a_shifted_image_is_not_split(gain):
    record = forward_record(iscam.Network(Shifting(gain), "model.features"), smooth_images(1, 20, 16)[0])
    assert split_network(record, ONCE) is None


def test_a_model_without_convolution_is_not_split():
    net = iscam.Network(nn.Sequential(nn.Identity(), Pooling()), "0")
    assert split_network(forward_record(net, smooth_images(1, 20, 16)[0]), ONCE) is None


def test_clipping_is_split_only_below_its_limit():
    x = smooth_images(1, 20, 16)[0]
    record = forward_record(iscam.Network(Clipping(), "model.features"), x)
    assert x.abs().max() < 5 < 8 * x.abs().max()
    assert split_network(record, torch.tensor([0.2, 1.0])) is not None
    assert split_network(record, torch.tensor([0.2, 8.0])) is None


def test_the_split_is_checked_without_cudnn(pooled_case):
    """cuDNN's TensorFloat-32 rounds more than the check allows. The caller's setting is restored."""
    seen = []
    record = forward_record(pooled_case.net, pooled_case.images[0])
    pooled_case.net.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    assert split_network(record, ONCE) is not None
    assert not any(seen)
    assert torch.backends.cudnn.enabled


# -------------------------------------------------------------------------------------------- memory, process, threads


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(peak_memory):
    """IS-CAM with 50 steps takes no more memory than with 5, and at most 1 GB above the network."""
    script = (
        "import sys, iscam\n"
        "net = iscam.load_model('menagerie/resnet')\n"
        "image = iscam.load_images('menagerie', 1)[0].image[None]\n"
        "for steps in map(int, sys.argv[1:]):\n"
        "    iscam.explain(net, image, steps=steps)"
    )
    peak = {steps: peak_memory(script, *steps) for steps in ((), (5,), (50,))}
    print(f"peak memory in MB: {peak}")
    assert peak[50,] - peak[5,] < 100, peak
    assert peak[50,] - peak[()] < 1000, peak


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_freed_memory_is_kept_only_when_asked():
    """The test runs in its own process, which keeps its memory afterwards."""
    script = """
import resource, torch, iscam, iscam.engine.allocator

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)  # 48 MB, more than glibc keeps by default
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

nn = torch.nn
net = iscam.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "0")
iscam.explain(net, torch.rand(1, 3, 16, 16), method="score_cam")
print(fresh_pages())
iscam.engine.allocator.keep_memory()
print(fresh_pages(), fresh_pages())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    by_default, first, again = map(int, found)
    assert again < first < by_default / 5
    assert again < by_default / 50


def test_compiled_scores_from_several_threads(bias_free_case, compiled_models):
    images = smooth_images(4, 20, 16)
    expected = array(probabilities(bias_free_case.net, images, 2))
    found = [None] * 4

    def work(i):
        found[i] = masked_scores(bias_free_case.net, batch_of(images), 4, 2, COMPILED)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled_models) == 1
    for scores in found:
        assert_allclose(array(scores), expected, rtol=1e-5)
