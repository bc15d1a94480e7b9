"""The one loop of passes: every way of running them gives the same scores; the first layer may run once for all t."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers.images import array, smooth_images
from helpers.networks import CASES, bias_free, pooled
from iscam.engine.compiling import copies, state_of
from iscam.engine.first_layer import scaled
from iscam.engine.scoring import batches, masked_scores
from iscam.errors import OUT_OF_MEMORY_MESSAGES
from iscam.record import forward_record


def batch_of(images: Tensor):
    """Pass p is image p."""
    return lambda passes: (images[passes.start : passes.stop],)


@pytest.fixture
def eager(monkeypatch):
    """`torch.compile` that compiles nothing; what it was asked to compile is collected."""
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append(self))
    return asked


@pytest.mark.parametrize("passes", [1, 3, 4, 5, 6, 7, 8])
def test_padding_changes_no_score(case, eager, passes):
    """Compiled batches are padded to one shape, a small rest runs uncompiled: as if each pass ran alone."""
    images = smooth_images(8, 20, 16)
    found = masked_scores(case.net, batch_of(images), passes, 2, compile=True, batch_size=4)
    assert_allclose(array(found), array(case.net(images[:passes]).softmax(1)[:, 2]), rtol=1e-5)
    assert len(eager) == (passes > 2)


def test_compiled_scores_are_the_eager_ones():
    """Through the real compiler, or, where there is none, with a warning and uncompiled."""
    net, images = iscam.Network(pooled(), "last"), smooth_images(6, 25, 31)
    expected = masked_scores(net, batch_of(images), 6, 1, compile=False)
    found = masked_scores(net, batch_of(images), 6, 1, compile=True, batch_size=4)
    assert_allclose(array(found), array(expected), rtol=1e-5)


def test_changed_weights_are_seen(case, eager):
    """The frozen copy is made again when the model has other weights, however they were written."""
    images = smooth_images(4, 20, 16)
    before = masked_scores(case.net, batch_of(images), 4, 2, compile=True, batch_size=4)
    masked_scores(case.net, batch_of(images), 4, 2, compile=True, batch_size=4)
    assert len(eager) == 1
    case.net.model.head.weight.data[2] *= 2
    after = masked_scores(case.net, batch_of(images), 4, 2, compile=True, batch_size=4)
    assert len(eager) == 2
    assert (before - after).abs().min() > 1e-4
    assert_allclose(array(after), array(case.net(images).softmax(1)[:, 2]), rtol=1e-5)


def test_auto_compiles_what_has_run_for_long(case, eager, monkeypatch):
    images = smooth_images(12, 20, 16)
    masked_scores(case.net, batch_of(images), 12, 2, batch_size=4)
    assert not eager
    monkeypatch.setattr("iscam.engine.scoring.COMPILING", 0.0)
    masked_scores(case.net, batch_of(images), 12, 2, batch_size=4)
    assert len(eager) == 1
    masked_scores(case.net, batch_of(images), 12, 2, batch_size=4, compile=False)
    assert len(eager) == 1


def test_a_model_that_cannot_be_compiled_runs_uncompiled(case, monkeypatch):
    def fail(self, **options):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(nn.Module, "compile", fail)
    images, run = smooth_images(9, 20, 16), []
    case.net.model.register_forward_hook(lambda model, given, logits: run.append(len(logits)))
    with pytest.warns(UserWarning, match=r"uncompiled, which is slower: RuntimeError: no C\+\+ compiler$") as said:
        found = masked_scores(case.net, batch_of(images), 9, 2, compile=True, batch_size=5)
        masked_scores(case.net, batch_of(images), 9, 2, compile=True, batch_size=5)
    assert len(said) == 1 and run == [5, 4, 5, 4]  # nothing is padded
    assert copies[case.net.model][1] is None  # else the dictionary would keep the model for ever
    assert_allclose(array(found), array(case.net(images).softmax(1)[:, 2]), rtol=1e-5)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError("DefaultCPUAllocator: can't allocate memory")])
@pytest.mark.parametrize("group_size", [1, 3])
def test_out_of_memory_halves_the_batch(case, group_size, error):
    images, tried = smooth_images(18, 20, 16), []

    def inputs(passes: range):
        tried.append(len(passes))
        if len(passes) > 4:
            raise error
        return batch_of(images)(passes)

    found = masked_scores(case.net, inputs, 18, 2, batch_size=16, group_size=group_size)
    assert_allclose(array(found), array(case.net(images).softmax(1)[:, 2]), rtol=1e-5)
    assert tried == ([9, 4, 4, 4, 3, 3] if group_size == 1 else [9, 3, 3, 3, 3, 3, 3])


@pytest.mark.parametrize("group_size", [1, 3])
@pytest.mark.parametrize("passes", [3, 9, 12, 18, 27, 30, 39])
def test_batches_are_even(case, passes, group_size):
    """So none is of one pass; there are no more of them than there must be."""
    images, made = smooth_images(passes, 20, 16), []

    def inputs(passes: range):
        made.append(len(passes))
        return batch_of(images)(passes)

    masked_scores(case.net, inputs, passes, 2, batch_size=6, group_size=group_size)
    assert sum(made) == passes and max(made) <= 6 and len(made) == -(-passes // 6)
    assert max(made) - min(made) <= group_size and all(length % group_size == 0 for length in made)


def test_out_of_memory_at_the_smallest_batch_is_raised(case):
    def inputs(passes: range):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        masked_scores(case.net, inputs, 6, 2, group_size=3)


@pytest.mark.parametrize("words", OUT_OF_MEMORY_MESSAGES)
def test_want_of_memory_in_other_words_halves_the_batch_too(case, words):
    """And is an error of the machine, not of the image, where one pass is too much."""
    images, room = smooth_images(8, 20, 16), 4

    def narrow(model, given):
        if len(given[0]) > room:
            raise RuntimeError(f"GET was {words}: 9 GB")

    expected = case.net(images).softmax(1)[:, 2]
    case.net.model.register_forward_pre_hook(narrow)
    found = masked_scores(case.net, batch_of(images), 8, 2, batch_size=8)
    assert_allclose(array(found), array(expected), rtol=1e-5)
    room = 0
    with pytest.raises(torch.OutOfMemoryError, match=words):
        masked_scores(case.net, batch_of(images), 8, 2)


def test_each_pass_may_have_its_own_class(case):
    images, targets = smooth_images(5, 20, 16), torch.tensor([0, 4, 2, 2, 1])
    found = masked_scores(case.net, batch_of(images), 5, targets, batch_size=2)
    assert_allclose(array(found), array(case.net(images).softmax(1).gather(1, targets[:, None])[:, 0]), rtol=1e-5)


@pytest.mark.parametrize("curve", [iscam.insertion, iscam.deletion])
def test_curves_of_many_maps_are_those_of_each(gap, curve):
    maps = torch.rand(3, 25, 31, generator=torch.Generator().manual_seed(1))
    together = curve(gap.net, gap.images, maps, gap.targets, 50)
    for i in range(3):
        alone = curve(gap.net, gap.images[i : i + 1], maps[i : i + 1], gap.targets[i : i + 1], 50)
        assert_allclose(array(together.scores[i]), array(alone.scores[0]), atol=1e-6)
        assert_allclose(float(together.auc[i]), float(alone.auc[0]), atol=1e-6)


# -------------------------------------------------------------------------------------- the first layer once for all t

ONCE = torch.ones(1)


@pytest.mark.parametrize(
    "options", [{"steps": 4}, {"steps": 7, "schedule": "linear"}, {"steps": 9, "nodes": 3}], ids=str
)
@pytest.mark.parametrize("name", CASES)
def test_the_first_layer_once_for_all_t_gives_the_same_map(name, options, monkeypatch):
    case = CASES[name]()
    expected = iscam.explain(case.net, case.images, case.targets, **options)
    used = []
    monkeypatch.setattr("iscam.methods.score.MANY", 0)
    monkeypatch.setattr("iscam.methods.score.scaled", lambda *given: used.append(scaled(*given)) or used[-1])
    found = iscam.explain(case.net, case.images, case.targets, **options)
    assert used and all(used)
    assert_allclose(array(found), array(expected), atol=1e-4)


@pytest.mark.parametrize("steps, size, shared", [(15, 4, 3), (15, 5, 5), (15, "auto", 15), (37, "auto", 1), (15, 1, 1)])
def test_no_batch_is_larger_than_asked_where_steps_share_the_first_layer(gap, monkeypatch, steps, size, shared):
    """They share it in parts of a batch then, or, where no part divides the steps, not at all."""
    made = []

    def watched(net, inputs, passes, target, *, group_size, **engine):
        watch = lambda batch: made.append((len(batch), group_size)) or inputs(batch)  # noqa: E731
        return masked_scores(net, watch, passes, target, group_size=group_size, **engine)

    expected = iscam.explain(gap.net, gap.images, gap.targets, steps=steps)
    monkeypatch.setattr("iscam.methods.score.MANY", 0)
    monkeypatch.setattr("iscam.methods.score.masked_scores", watched)
    found = iscam.explain(gap.net, gap.images, gap.targets, steps=steps, batch_size=size)
    assert_allclose(array(found), array(expected), atol=1e-4)
    assert max(made)[0] <= (32 if size == "auto" else size) and {together for _, together in made} == {shared}


def test_scaled_is_the_model_at_every_t(gap):
    """Against the literal network: the logits of t x, all t of an image in one call."""
    view = forward_record(gap.net, gap.images[0])
    t = torch.tensor([[0.0, 0.3, 1.0, 8.0], [2.0, 0.5, 0.0, 1.0]])
    with torch.no_grad():
        found = scaled(view, t[0]).model(gap.images[:2], t)
    expected = [gap.split.logits(float(s) * array(gap.images[i])) for i in range(2) for s in t[i]]
    assert_allclose(array(found), expected, atol=1e-4)


def test_scaled_follows_the_weights(gap):
    """Both halves share the model's weights; a layer that is replaced afterwards is noticed."""
    view = forward_record(gap.net, gap.images[0])
    model, x = gap.net.model, gap.images[:1]
    found = scaled(view, ONCE).model
    with torch.no_grad():
        model.first[0].weight.mul_(1.5)
        assert_allclose(array(found(x, torch.ones(1, 1))), array(model(x)), atol=1e-5)
    model.head = nn.Linear(8, 5)
    assert scaled(view, ONCE) is None
    moved = gap.net.to(torch.float64)  # which gives batch normalisation other buffers, so that it is made anew
    assert scaled(forward_record(moved, gap.images[0].double()), ONCE.double()) is not None


class Normalising(nn.Module):
    """A convolution of a shifted image: no affine function of t x that the convolution's bias tells of."""

    def __init__(self):
        super().__init__()
        self.model = bias_free()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x - 0.5)


class Clipping(nn.Module):
    """A convolution of an image whose large values are cut, which only a large t shows."""

    def __init__(self):
        super().__init__()
        self.model = bias_free()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.clamp(-5, 5))


def test_a_network_that_cuts_large_inputs_is_split_only_where_it_cuts_none(monkeypatch):
    net, x = iscam.Network(Clipping(), "model.features"), smooth_images(1, 20, 16)
    view = forward_record(net, x[0])
    assert x.abs().max() < 5 < 8 * x.abs().max()
    assert scaled(view, torch.tensor([0.2, 1.0])) is not None and scaled(view, torch.tensor([0.2, 8.0])) is None
    literal = iscam.explain(net, x, steps=15)
    monkeypatch.setattr("iscam.methods.score.MANY", 0)
    assert_allclose(array(iscam.explain(net, x, steps=15)), array(literal), atol=1e-6)


def test_the_first_layer_is_checked_without_the_rounding_of_cudnn(gap):
    """Which on recent GPUs is TensorFloat-32's; afterwards all is as it was."""
    seen = []
    view = forward_record(gap.net, gap.images[0])
    gap.net.model.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    assert scaled(view, ONCE) is not None
    assert seen == [False, False] and torch.backends.cudnn.enabled


class Pooling(nn.Module):
    """No convolution at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize("model", [Normalising(), nn.Sequential(nn.Identity(), Pooling())], ids=["shifted", "pooled"])
def test_a_network_that_does_not_begin_with_a_convolution_is_not_split(model):
    layer = "model.features" if isinstance(model, Normalising) else "0"
    assert scaled(forward_record(iscam.Network(model, layer), smooth_images(1, 20, 16)[0]), ONCE) is None


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(peak_memory):
    """IS-CAM in 50 steps takes no more memory than in 5, beyond noise; all of it lies under 1 GB above the network."""
    script = (
        "import sys, iscam\n"
        "net = iscam.load_model('menagerie/resnet')\n"
        "image = iscam.load_images('menagerie', 1)[0].image[None]\n"
        "for steps in map(int, sys.argv[1:]):\n"
        "    iscam.explain(net, image, steps=steps, compile=False)"
    )
    peak = {steps: peak_memory(script, *steps) for steps in ((), (5,), (50,))}
    print(f"peak memory in MB: {peak}")
    assert peak[50,] - peak[5,] < 100, peak
    assert peak[50,] - peak[()] < 1000, peak


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_memory_that_is_freed_is_used_again():
    """In a process of its own, since it keeps its memory from then on."""
    script = """
import resource, torch, iscam.engine.allocator

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)  # 48 MB, more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(fresh_pages())
iscam.engine.allocator.keep_memory()
print(fresh_pages(), fresh_pages())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    given_back, first, again = map(int, found)
    assert again < first < given_back / 5 and again < given_back / 50


def test_what_tells_that_a_model_has_changed():
    """Values that change, values that change places, and other modules; nothing else."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    before = state_of(model)
    assert state_of(model) == before
    model[0].weight.data.copy_(model[0].weight.flip(0))
    flipped = state_of(model)
    model[1] = nn.GELU()
    assert len({before, flipped, state_of(model)}) == 3


def test_want_of_memory_while_a_gpu_is_measured_halves_the_batch(case, monkeypatch):
    """Without a GPU: what measures one is replaced, and says that half of the first batch is too much as well."""
    gpu = SimpleNamespace(model=case.net.model, device=torch.device("cuda"), read_output=case.net.read_output)
    images, tried = smooth_images(40, 20, 16), []

    def measured(model, arguments, precision):
        tried.append(len(arguments[0]))
        if tried[-1] > 8:
            raise torch.OutOfMemoryError
        return 10

    monkeypatch.setattr("iscam.engine.scoring.gpu_batch", measured)
    found = torch.cat([*batches(gpu, batch_of(images), 40, "fp32", False, "auto", 1)])
    assert_allclose(array(found), array(case.net(images)), rtol=1e-4, atol=1e-6)
    assert tried == [20, 10, 5]
