"""Randomised and shifted networks, and the likeness of their maps, on cases computed by hand."""

import copy
import math
import threading

import pandas as pd
import pytest
import torch
from torch import nn

import iscam
from helpers.errors import refused
from iscam.metrics.sanity import SHIFTS, cascade, excess, explained_randomised, likeness, outcome

TARGETS = torch.tensor([2, 3, 4])


@pytest.fixture
def wide_net():
    """A network with padding, trained batch normalisation, and enough weights to test their distribution."""
    torch.manual_seed(3)
    head = nn.Linear(400, 5)
    model = nn.Sequential(
        nn.Conv2d(3, 400, 3, padding=1), nn.BatchNorm2d(400), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
        model[1].bias.uniform_(-1, 1)
        model[1].running_mean.uniform_(-1, 1)
        model[1].running_var.uniform_(0.5, 2)
        head.weight.mul_(20)
    return iscam.Network(model.eval(), "2")


def state(net):
    return {name: tensor.clone() for name, tensor in net.model.state_dict().items()}


def test_cascade_runs_from_the_logits_to_the_input(pooled_case):
    assert cascade(pooled_case.net) == ["head", "last", "first.1", "first.0"]


def test_randomised_changes_only_the_last_layers(wide_net):
    trained, names = state(wide_net), {1: ["5"], 2: ["5", "1"], 3: ["5", "1", "0"]}
    for depth, new in names.items():
        found = state(iscam.randomised(wide_net, depth))
        for name, tensor in found.items():
            if name.endswith(("weight", "bias", "running_mean", "running_var")):
                assert torch.equal(tensor, trained[name]) != (name.split(".")[0] in new), (depth, name)


def test_randomised_more_layers_contain_those_of_fewer(wide_net):
    one, three = state(iscam.randomised(wide_net, 1)), state(iscam.randomised(wide_net, 3))
    assert torch.equal(one["5.weight"], three["5.weight"])


def test_randomised_weights_have_the_scale_of_he(wide_net):
    found = state(iscam.randomised(wide_net))
    for name, inputs in (("0.weight", 27), ("5.weight", 400)):
        assert found[name].std().item() == pytest.approx(math.sqrt(2 / inputs), rel=0.05)
        assert abs(found[name].mean().item()) < 0.1 * math.sqrt(2 / inputs)
    for name, value in {"0.bias": 0, "5.bias": 0, "1.weight": 1, "1.bias": 0}.items():
        assert (found[name] == value).all()
    assert (found["1.running_mean"] == 0).all() and (found["1.running_var"] == 1).all()


def test_randomised_leaves_the_network_unchanged(wide_net):
    before, random = state(wide_net), torch.get_rng_state()
    wide_net.model.train()
    copied = iscam.randomised(wide_net, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(wide_net).items())
    assert wide_net.model.training and copied.layer == wide_net.layer and copied.transform is wide_net.transform
    assert torch.equal(random, torch.get_rng_state())


def test_randomised_weights_depend_on_the_seed_only(wide_net):
    first = state(iscam.randomised(wide_net, seed=1))
    torch.manual_seed(99)
    assert torch.equal(first["0.weight"], state(iscam.randomised(wide_net, seed=1))["0.weight"])
    assert not torch.equal(first["0.weight"], state(iscam.randomised(wide_net, seed=2))["0.weight"])


def test_randomised_zero_layers_is_a_copy(pooled_case):
    assert torch.equal(iscam.randomised(pooled_case.net, 0)(pooled_case.images), pooled_case.net(pooled_case.images))


@pytest.mark.parametrize("layers", [4, -1, 1.5, "2"])
def test_randomised_wrong_number_of_layers_is_refused(wide_net, layers):
    with refused("layers must be"):
        iscam.randomised(wide_net, layers)


def test_randomised_model_that_cannot_be_copied_is_refused(wide_net):
    wide_net.model.lock = threading.Lock()
    with refused("cannot be copied"):
        iscam.randomised(wide_net)


def test_shifted_network_equals_a_bias_that_absorbs_it(pooled_case):
    model = copy.deepcopy(pooled_case.net.model).double()
    net, images = iscam.Network(model, "last"), pooled_case.images.double()
    c = torch.tensor([0.5, -2.0, 1.0])
    moved = images + c[:, None, None]
    expected = net(images)
    torch.testing.assert_close(iscam.shifted(net, c)(moved), expected)
    assert not torch.allclose(net(moved), expected, atol=1e-2)
    absorbed = copy.deepcopy(model)  # its first convolution has no padding
    with torch.no_grad():
        absorbed.first[0].bias -= torch.einsum("kchw,c->k", absorbed.first[0].weight, c.double())
    torch.testing.assert_close(iscam.Network(absorbed, "last")(moved), expected)


def test_shifted_network_is_exact_at_the_padded_border(wide_net):
    net = iscam.Network(wide_net.model.double(), "2")
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(iscam.shifted(net, 3.0)(images + 3), net(images))


@pytest.mark.parametrize("by", ["1", float("nan"), torch.zeros(3, 1), []], ids=["word", "NaN", "rank 2", "empty"])
def test_shifted_by_something_else_is_refused(pooled_case, by):
    with refused("by must be"):
        iscam.shifted(pooled_case.net, by)


class Tokens(nn.Module):
    """A model of image tokens, with a class token, that returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1))
        return {"scores": self.head(tokens[:, 0] + tokens.mean(1))}


def test_sanity_networks_keep_layout_output_and_probability():
    """Both wrappers work for a token layer of a sigmoid network that returns a dictionary."""
    torch.manual_seed(0)
    output = lambda returned: returned["scores"]  # noqa: E731
    net = iscam.Network(Tokens().eval(), "block", "tokens", output, "sigmoid")
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    moved = iscam.shifted(net, 2.0)
    for same in (iscam.randomised(net, 0), moved):
        assert (same.probability, same.output, same.layout) == ("sigmoid", output, "tokens")
    torch.testing.assert_close(moved(images + 2), net(images), atol=1e-5, rtol=1e-5)
    maps = iscam.explain(net, images, torch.tensor([0, 1]), "grad_cam")
    again = iscam.explain(moved, images + 2, torch.tensor([0, 1]), "grad_cam")
    torch.testing.assert_close(again, maps, atol=1e-4, rtol=0)
    for layers in range(len(cascade(net)) + 1):
        assert iscam.randomised(net, layers)(images).isfinite().all()


def test_sanity_networks_accept_a_bare_module(pooled_case):
    model = pooled_case.net.model
    assert torch.equal(iscam.randomised(model, 0)(pooled_case.images), pooled_case.net(pooled_case.images))
    torch.testing.assert_close(
        iscam.shifted(model, 1.0)(pooled_case.images + 1), pooled_case.net(pooled_case.images), atol=1e-4, rtol=1e-4
    )
    assert cascade(model) == cascade(pooled_case.net)


@pytest.mark.parametrize("method", ["cam", "grad_cam", "grad_cam_pp"])
def test_shifted_network_has_equal_gradient_maps(pooled_case, method):
    net, images = (
        iscam.Network(pooled_case.net.model.double(), "relu"),
        pooled_case.images.double(),
    )  # where CAM is defined
    c = torch.tensor([0.5, -2.0, 1.0])
    found = iscam.explain(iscam.shifted(net, c), images + c[:, None, None], TARGETS, method)
    torch.testing.assert_close(found, iscam.explain(net, images, TARGETS, method), atol=1e-5, rtol=0)


def test_shifted_smooth_grad_cam_pp_depends_on_its_range(pooled_case):
    net, images = iscam.Network(pooled_case.net.model.double(), "last"), pooled_case.images.double()
    expected = iscam.explain(net, images, TARGETS, "smooth_grad_cam_pp", samples=2, sigma=0.5)
    for c, same in ((torch.ones(3), True), (torch.tensor([0.0, 0.0, 9.0]), False)):
        moved = images + c[:, None, None]
        found = iscam.explain(iscam.shifted(net, c), moved, TARGETS, "smooth_grad_cam_pp", samples=2, sigma=0.5)
        assert torch.allclose(found, expected, atol=1e-5) is same


def test_shifted_score_cam_fills_with_minus_the_shift(pooled_case):
    image, c = pooled_case.images[0], torch.tensor([0.5, -2.0, 1.0])[:, None, None]
    view = iscam.record.forward_record(iscam.shifted(pooled_case.net, c), image + c, 2)
    weights = iscam.METHODS["score_cam"](view)
    A = view.activations.detach()
    for k in range(len(A)):
        if A[k].max() > A[k].min():
            H = nn.functional.interpolate(A[k][None, None], image.shape[1:], mode="bilinear")[0, 0]
            H = (H - H.min()) / (H.max() - H.min())
            filled = image * H - c * (1 - H)
            expected = pooled_case.net(filled[None]).softmax(1)[0, 2].item()
            assert weights[k].item() == pytest.approx(expected, abs=1e-5)


def test_likeness_has_a_row_per_method_image_metric():
    up = torch.arange(121.0).reshape(11, 11) / 120
    maps = {"one": torch.stack([up, up]), "two": torch.stack([up, torch.zeros(11, 11)])}
    others = {"one": torch.stack([up**2, 1 - up]), "two": torch.stack([up, up])}
    found = likeness(maps, others).set_index(["method", "image", "metric"])["value"]
    assert len(found) == 12
    assert found["one", 0, "rank_correlation"] == pytest.approx(1)
    assert found["one", 0, "largest"] == pytest.approx(0.25, abs=1e-4)  # x - x² is largest at 1/2
    assert found["one", 0, "ssim"] == pytest.approx(iscam.ssim(up[None], up[None] ** 2).item())
    assert found["one", 1, "rank_correlation"] == pytest.approx(-1)
    assert found["two", 0, "largest"] == 0
    assert math.isnan(found["two", 1, "rank_correlation"]) and math.isnan(found["two", 1, "ssim"])


def test_explained_randomised_draws_weights_per_image(pooled_case):
    methods = {"grad_cam": {}, "is_cam": {"steps": 2}}
    found = explained_randomised(pooled_case.net, pooled_case.images, TARGETS, methods, 2, seed=5)
    for i in range(3):
        its = iscam.randomised(pooled_case.net, 2, seed=5 + i)
        for method, options in methods.items():
            expected = iscam.explain(its, pooled_case.images[i : i + 1], TARGETS[i : i + 1], method, **options)
            torch.testing.assert_close(found[method][i], expected[0])


def test_excess_subtracts_the_value_of_the_same_map():
    keys = ["model", "method", "image", "metric", "against", "layers", "value"]
    frame = pd.DataFrame(
        [
            ("a", "m", 0, "ssim", "another image", 0, 0.5),
            ("a", "m", 1, "ssim", "another image", 0, 0.1),
            ("b", "m", 0, "ssim", "another image", 0, 0.2),
            ("a", "m", 0, "ssim", "randomised", 4, 0.75),
            ("a", "m", 1, "ssim", "randomised", 4, 0.75),
            ("b", "m", 0, "ssim", "randomised", 9, 0.2),
            ("a", "m", 0, "ssim", "plus 1", 0, 0.9),
        ],
        columns=keys,
    )
    found = excess(frame)
    assert found["value"].tolist() == pytest.approx([0.25, 0.65, 0])
    assert found["layers"].tolist() == [4, 4, 9]


def test_outcome_at_the_margin():
    assert outcome(-1, 0.2, 0.2) == "changes"
    assert outcome(0.2, 0.5, 0.2) == "undecided"
    assert outcome(0.21, 0.5, 0.2) == "stays similar"


def test_shift_to_black_maps_black_to_zero():
    net = iscam.load_model("menagerie/resnet")
    black = net.transform(iscam.data.Image.new("RGB", (224, 224)))
    torch.testing.assert_close(black + SHIFTS["0 is black"][:, None, None], torch.zeros(3, 224, 224))
