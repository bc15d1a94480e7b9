"""Any classifier: its layer is found, and its layout and output are read, in any number of threads."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
import time
import warnings
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

import iscam
from helpers.errors import refused
from helpers.grad_cam import grad_cam_map
from helpers.images import smooth_images
from helpers.networks import bias_free, pooled
from iscam.model import as_network
from iscam.probe import layer_names
from iscam.record import forward_record, logits_with


def seeded(build, seed: int = 0) -> nn.Module:
    """A model with random weights in evaluation mode. No weight is zero, so no gradient is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
    return model.eval()


def swin() -> nn.Module:
    """Channels-last inside, channels-first at `permute`; a grid of 8x8, then of 4x4 on images of 64x64."""
    return seeded(lambda: SwinTransformer([8, 8], 16, [1, 1], [2, 4], [4, 4], num_classes=5, stochastic_depth_prob=0))


def vit() -> nn.Module:
    """A class token and a grid of 8x8 tokens on images of 64x64."""
    return seeded(lambda: VisionTransformer(64, 8, 2, 2, 16, 32, num_classes=5))


class Cnn(nn.Module):
    """Convolutions, then a head of pooling and one linear layer.

    `end` rearranges what `features` returns, and the axes of `pool` are then the spatial ones.
    """

    def __init__(self, channels: int = 3, classes: int = 5, width: int = 6, end=None, pool=(2, 3)):
        super().__init__()
        self.pool = pool
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.end = Apply(end) if end else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.end(self.features(x)).mean(self.pool))


class Returns(nn.Module):
    """A network whose output is wrapped."""

    def __init__(self, wrap, classes: int = 5):
        super().__init__()
        self.net, self.wrap = seeded(lambda: Cnn(classes=classes)), wrap

    def forward(self, x: Tensor):
        return self.wrap(self.net(x))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


# ------------------------------------------------------------------------------------------------ the automatic layer


class Squeezed(nn.Module):
    """Like SqueezeNet: the head makes a map per class, which is only pooled."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


class WithAuxiliary(nn.Module):
    """A branch that runs last, on which the logits do not depend."""

    def __init__(self):
        super().__init__()
        self.net, self.side = Cnn(), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return SimpleNamespace(logits=self.net(x), side=self.side(x))


def flattened() -> nn.Module:
    """This network takes only images of 32x32."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 5))


def timm_vit() -> nn.Module:
    """Queries, keys and values come from a linear layer after the last norm. The class scores also depend on it."""
    return timm.models.VisionTransformer(64, 8, embed_dim=16, depth=2, num_heads=2, num_classes=5)


def reversible() -> nn.Module:
    """Pooling to the existing size and dropout do not change the features."""
    return nn.Sequential(
        OrderedDict(
            features=nn.Conv2d(3, 6, 32, stride=32),
            same=nn.AdaptiveAvgPool2d(7),
            drop=nn.Dropout(0.5),
            flat=nn.Flatten(),
            head=nn.Linear(6 * 49, 5),
        )
    )


AUTOMATIC = {
    "pooled, an in-place ReLU": (pooled, "relu"),
    "a container around the same tensor": (Cnn, "features"),
    "class maps behind the features": (Squeezed, "features"),
    "class maps alone": (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "0"),
    "a branch that the logits ignore": (WithAuxiliary, "net.features"),
    "greyscale": (lambda: Cnn(channels=1), "features"),
    "four channels": (lambda: Cnn(channels=4), "features"),
    "one size of image": (flattened, "2"),
    "class token": (vit, "encoder.layers.encoder_layer_1.ln_1"),
    "class token, a linear layer for the attention": (timm_vit, "blocks.1.norm1"),
    "pooling and dropout without effect": (reversible, "features"),
    "channels-last, permuted at the end": (swin, "permute"),
    "double precision": (lambda: Cnn().double(), "features"),
    "half precision": (lambda: Cnn().bfloat16(), "features"),
    "frozen": (lambda: Cnn().requires_grad_(False), "features"),
    "single logit": (lambda: Cnn(classes=1), "features"),
}


@pytest.mark.parametrize("kind", AUTOMATIC)
def test_automatic_layer_is_the_last_spatial_one(kind):
    build, layer = AUTOMATIC[kind]
    net = iscam.Network(seeded(build), probability="sigmoid" if kind == "single logit" else "softmax")
    assert net.layer == layer


def test_automatic_layer_behind_a_head_of_zeros():
    """This head is like that of torchvision's untrained ViT: no gradient of a logit reaches any layer."""
    model = vit()
    nn.init.zeros_(model.heads.head.weight)
    assert iscam.Network(model).layer == "encoder.layers.encoder_layer_1.ln_1"


def test_automatic_layer_without_gradients():
    """A forward pass that turns gradients off does not show what the logits depend on."""
    model = seeded(Cnn)
    model.forward = torch.no_grad()(model.forward)
    assert iscam.Network(model).layer == "features"


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_automatic_layer_under_any_default_device(device):
    model = seeded(Cnn)
    with torch.device(device):
        assert iscam.Network(model).layer == "features"


def test_automatic_layer_leaves_model_and_random_state():
    model = seeded(Cnn).train()
    model.features[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        iscam.Network(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_no_spatial_layer_is_refused():
    with refused("Sequential has no layer with a spatial output", "layer=", "0, 1"):
        iscam.Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)))


def test_failing_probe_image_is_refused():
    with refused("no layer was given", "Sequential fails", "mat1 and mat2", "layer=", "hidden, head"):
        iscam.Network(nn.Sequential(OrderedDict(hidden=nn.Linear(7, 4), head=nn.Linear(4, 3))))


def test_declared_size_is_probed():
    """The model declares its size like timm, Hugging Face or torchvision, and takes no other size."""
    for name, value in {
        "pretrained_cfg": {"input_size": (3, 40, 40)},
        "config": SimpleNamespace(image_size=40, num_channels=3),
        "image_size": 40,
    }.items():
        model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 1600, 5))
        setattr(model, name, value)
        assert iscam.Network(model).layer == "0"


def test_layer_as_module_gives_its_name():
    model = vit()
    assert iscam.Network(model, model.encoder.layers[0]).layer == "encoder.layers.encoder_layer_0"
    assert iscam.Network(model, layer="conv_proj").layer == "conv_proj"


def test_layer_names_are_spatial():
    names = layer_names(swin())
    assert names[-1] == "permute"
    assert "features" in names
    assert not {"avgpool", "flatten", "head"} & set(names)


# ------------------------------------------------------------------------------------------------------------- layouts


def nchw(a: Tensor) -> Tensor:
    return a


def nhwc(a: Tensor) -> Tensor:
    return a.permute(0, 3, 1, 2)


def grid(a: Tensor) -> Tensor:
    """Tokens on a square grid after one class token."""
    side = int((a.shape[1] - 1) ** 0.5)
    return a[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def last(a: Tensor) -> Tensor:
    """Channels-last."""
    return a.permute(0, 2, 3, 1)


def flat(a: Tensor) -> Tensor:
    return a.flatten(2)


def tokens(a: Tensor) -> Tensor:
    return a.flatten(2).transpose(1, 2)


LAYERS = [
    (swin, "features.0.0", nchw),
    (swin, "features.0", nhwc),
    (swin, "features.1", nhwc),
    (swin, "features.1.0.attn", nhwc),
    (swin, "features.1.0.mlp", nhwc),
    (swin, "features.2", nhwc),
    (swin, "features.3", nhwc),
    (swin, "features", nhwc),
    (swin, "norm", nhwc),
    (swin, "permute", nchw),
    (vit, "conv_proj", nchw),
    (vit, "encoder.layers.encoder_layer_0", grid),
    (vit, "encoder.layers.encoder_layer_1.ln_1", grid),
    (Cnn, "features.0", nchw),
    (Cnn, "features", nchw),
    (lambda: Cnn(end=last, pool=(1, 2)), "end", nhwc),
    (lambda: Cnn(end=tokens, pool=1), "end", lambda a: a.mT.unflatten(2, (16, 16))),
    (lambda: Cnn(end=flat, pool=2), "end", lambda a: a.unflatten(2, (16, 16))),
    (lambda: Cnn(width=16, end=last, pool=(1, 2)), "end", nhwc),  # 16 channels of 16x16
    (lambda: Cnn(width=16), "end", nchw),
    (lambda: Cnn(width=16, end=tokens, pool=1), "end", lambda a: a.mT.unflatten(2, (16, 16))),
    (lambda: Cnn(width=64, end=flat, pool=2), "end", lambda a: a.unflatten(2, (16, 16))),
]


@pytest.mark.parametrize(("build", "layer", "to_maps"), LAYERS, ids=lambda value: value if type(value) is str else "")
@pytest.mark.filterwarnings("ignore:the map of class . is all zeros")
def test_auto_layout_gives_the_right_map(build, layer, to_maps):
    model, image = seeded(build), smooth_images(1, 64, 64)[0]
    net, module = iscam.Network(model, layer), model.get_submodule(layer)
    maps = iscam.explain(net, image.expand(5, 3, 64, 64), torch.arange(5), method="grad_cam")
    expected = [grad_cam_map(model, module, image, target, to_maps) for target in range(5)]
    torch.testing.assert_close(maps, torch.stack(expected), atol=1e-4, rtol=0)
    assert maps.amax((1, 2)).sum() > 1, "at least two maps are not blank"


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (70, 54), (65, 64)])
@pytest.mark.parametrize("width", [4, 8, 12, 16, 24])
@pytest.mark.parametrize(("end", "pool", "to_maps"), [(None, (2, 3), nchw), (last, (1, 2), nhwc)])
@pytest.mark.filterwarnings("ignore:the map of class . is all zeros")
def test_auto_layout_of_oblong_images_is_right_or_refused(end, pool, to_maps, width, size):
    model, image = seeded(lambda: Cnn(width=width, end=end, pool=pool)), smooth_images(1, *size)[0]
    net = iscam.Network(model, "end")
    try:
        found = iscam.explain(net, image[None], 2, method="grad_cam")[0]
    except iscam.InputError as error:
        assert "allows several readings" in str(error)
        assert "layout='nchw' reads" in str(error)
    else:
        torch.testing.assert_close(found, grad_cam_map(model, model.end, image, 2, to_maps), atol=1e-5, rtol=0)


def pooled_tokens(a: Tensor) -> Tensor:
    """(1, 6, 64)"""
    return nn.functional.adaptive_avg_pool2d(a, 8).flatten(2)


@pytest.mark.parametrize(
    "end",
    [
        Apply(lambda a: a.flatten(1)),
        Apply(lambda a: a[..., :7]),
        Apply(lambda a: a.flatten(2)[..., :-3]),
        Apply(lambda a: (a.flatten(2).mT @ a.flatten(2)).softmax(-1)),  # attention (1, 256, 256)
        Apply(lambda a: (a.flatten(2).mT @ a.flatten(2)).softmax(-1)[:, None].expand(-1, 3, -1, -1)),  # of three heads
        Apply(lambda a: (a.flatten(2).mT @ a.flatten(2))[:, None].expand(-1, 3, -1, -1)),  # before the softmax
        Apply(lambda a: (pooled_tokens(a).mT @ pooled_tokens(a)).softmax(-1)[:, None]),  # attention (1, 1, 64, 64)
        nn.LayerNorm(16),  # its last axis has 16 channels, which leaves a grid of 6x16
        Apply(lambda a: a.unflatten(1, (2, 3)).flatten(3)),  # queries (1, 2, 3, 256)
        Apply(lambda a: a.reshape(-1, 6, 4, 4)),  # windows
        Apply(lambda a: a[:, :, None]),
        Apply(lambda a: (a, a)),
        Apply(lambda a: {"a": a}),
        Apply(lambda a: (a > 0).long()),
        Apply(lambda a: None),
    ],
)
@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
def test_auto_layout_refuses_what_is_no_image(end, method):
    class Side(nn.Module):
        """`end` does not lead to the logits, so it may return anything."""

        def __init__(self):
            super().__init__()
            self.net, self.end = seeded(Cnn), end

        def forward(self, x: Tensor) -> Tensor:
            self.end(self.net.features(x))
            return self.net(x)

    with refused("layer 'end'"):
        iscam.explain(iscam.Network(Side(), "end"), smooth_images(1, 64, 64), 1, method=method)


class TalkingAttention(nn.Module):
    """Mixes the heads after the softmax, so that rows do not sum to 1: (1, 2, 64, 64), then (1, 64, 64, 2)."""

    def __init__(self):
        super().__init__()
        self.drop, self.mix = nn.Dropout(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(1, (2, 3)).flatten(3)
        scores = self.drop(heads.mT @ heads)
        self.mix(scores.permute(0, 2, 3, 1))
        return x


@pytest.mark.parametrize("layer", ["end.attention.drop", "end.attention.mix"])
def test_attention_between_tokens_is_no_image(layer):
    model = seeded(Cnn)
    model.end = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(8), attention=TalkingAttention()))
    with refused(f"layer '{layer}'", "layout="):
        iscam.explain(iscam.Network(model, layer), smooth_images(1, 64, 64), 1, method="score_cam")


def test_table_of_position_biases_is_no_layer():
    """It has the shape of maps, and the class scores depend on it, but it does not depend on the image."""

    class Biased(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.bias, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 1), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = self.features(x)
            return self.head((a * self.bias(torch.ones(1, 2, *a.shape[2:]))).relu().mean((2, 3)))

    model = seeded(Biased)
    assert iscam.Network(model).layer == "features"
    assert layer_names(model) == ["features"]
    net = iscam.Network(model, "bias")
    for _ in range(2):
        with refused("layer 'bias' does not depend on the image"):
            iscam.explain(net, smooth_images(1, 16, 16), 1, method="score_cam")


@pytest.mark.parametrize("layer", ["net.features.0", "net.features"])
def test_part_without_gradients_is_explained(layer):
    """A frozen backbone runs without gradients, so that autograd's graph ends before the image."""

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.net = nn.Conv2d(3, 3, 3), Cnn()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.net(x)

    model, images = seeded(Frozen), smooth_images(1, 64, 64)
    net = iscam.Network(model)
    assert net.layer == "net.features"
    assert {"backbone", "net.features.0", "net.features"} <= set(layer_names(model))
    expected = grad_cam_map(model, model.get_submodule(layer), images[0], 1)
    torch.testing.assert_close(iscam.explain(net.with_layer(layer), images, 1, method="grad_cam")[0], expected)


def test_ambiguous_layout_lists_its_readings():
    """The layer returns 16 channels of 16x16, and the model takes only one size, so both 4-d layouts fit."""

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16**3, 5)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1:] == (3, 64, 64)
            return self.head(self.end(self.features(x)).flatten(1))

    for end, right, wrong, to_maps in (
        (nn.ReLU(), "nchw", "nhwc", nchw),
        (Apply(lambda a: a.permute(0, 2, 3, 1)), "nhwc", "nchw", nhwc),
    ):
        model, images = seeded(Fixed), smooth_images(1, 64, 64)
        model.end = end
        words = ("layout='nchw' reads 16 channels of 16x16", "layout='nhwc' reads 16 channels of 16x16")
        with refused("layer 'end' returned (1, 16, 16, 16)", "several readings", *words):
            iscam.explain(iscam.Network(model, "end"), images, 1, method="grad_cam")
        expected = grad_cam_map(model, model.end, images[0], 1, to_maps)
        maps = {
            layout: iscam.explain(iscam.Network(model, "end", layout=layout), images, 1, method="grad_cam")[0]
            for layout in (right, wrong)
        }
        torch.testing.assert_close(maps[right], expected, atol=1e-5, rtol=0)
        assert (maps[wrong] - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    "method", ["grad_cam", "grad_cam_pp", "score_cam", "is_cam", "layer_cam", "ablation_cam", "recipro_cam"]
)
@pytest.mark.filterwarnings("ignore:the map of class . is all zeros")
def test_layout_as_function_equals_the_named_one(method):
    images = smooth_images(2, 64, 64)
    for model, layer, layout, function in (
        (swin(), "features", "nhwc", nhwc),
        (vit(), "encoder.layers.encoder_layer_0", "tokens", grid),
        (seeded(Cnn), "features", "nchw", nchw),
    ):
        named = iscam.explain(iscam.Network(model, layer, layout=layout), images, 2, method=method)
        free = iscam.explain(iscam.Network(model, layer, layout=function), images, 2, method=method)
        torch.testing.assert_close(free, named, atol=1e-6, rtol=0)


def test_layout_as_function_finds_a_layer():
    assert iscam.Network(swin(), layout=nhwc).layer == "norm"


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("NCHW", ["layout", "auto, nchw, nhwc, tokens"]),
        (3, ["layout"]),
        (["nchw"], ["layout"]),
        ("tokens", ["(1, 6, 16, 16)", "layout='tokens'"]),
        (lambda a: a[0], ["layout must return maps", "(6, 16, 16)"]),
        (lambda a: a.reshape(2, 3, 16, 16), ["layout must return maps", "(2, 3, 16, 16)"]),
        (lambda a: None, ["layout must return maps", "NoneType"]),
        (lambda a: a.permute(0, 1), ["layout fails on the output (1, 6, 16, 16)"]),
        (lambda a, b: a, ["layout fails", "TypeError"]),
        (lambda a: a[:, :, :0], ["layout must return maps", "(1, 6, 0, 16)"]),
        (lambda a: a * 2, ["only rearrange or select"]),
        (lambda a: -a, ["only rearrange or select"]),
        (lambda a: a.relu(), ["only rearrange or select"]),
        (lambda a: a.mean(1, keepdim=True), ["only rearrange or select"]),
        (lambda a: a.amax(1, keepdim=True), ["only rearrange or select"]),
        (lambda a: a.repeat(1, 2, 1, 1), ["only rearrange or select"]),
    ],
)
def test_wrong_layout_is_refused(layout, words):
    with refused(*words):
        iscam.explain(iscam.Network(seeded(Cnn), "features", layout=layout), smooth_images(1, 64, 64), method="cam")


def test_layout_as_function_may_select_channels():
    net = iscam.Network(seeded(Cnn), "features", layout=lambda a: a[:, ::2].flip(3).float())
    assert iscam.explain(net, smooth_images(2, 64, 64), 1, "grad_cam", details=True).weights.shape == (2, 3)


def test_tokens_keep_their_prefix():
    """The model goes on with the tokens that the layer returned: its logits do not change."""
    model, images = vit(), smooth_images(3, 64, 64)
    net = iscam.Network(model, "encoder.layers.encoder_layer_0")
    for image, logits in zip(images, net(images), strict=True):
        record = forward_record(net, image)
        torch.testing.assert_close(record.logits.detach(), logits, atol=1e-5, rtol=0)
        assert record.activations.shape == (16, 8, 8)
        assert record.activations.is_leaf


@pytest.mark.parametrize("one_image", [False, True])
@pytest.mark.parametrize("build", [lambda: Cnn(), swin, vit])
def test_logits_with_replaced_activations(build, one_image):
    model, image = seeded(build), smooth_images(1, 64, 64)[0]
    record = forward_record(iscam.Network(model), image, 2)
    with torch.no_grad():
        same = logits_with(record, record.activations[None].expand(3, *record.activations.shape), one_image)
        other = logits_with(record, torch.zeros_like(record.activations)[None], one_image)
    torch.testing.assert_close(same, record.logits.detach().expand(3, 5), atol=1e-5, rtol=0)
    assert (other - record.logits).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------------------- outputs

Outputs = namedtuple("Outputs", ["logits", "aux"])

OUTPUTS = {
    "an attribute": (lambda s: SimpleNamespace(logits=s), None),
    "a named tuple": (lambda s: Outputs(s, None), None),
    "a dictionary": (lambda s: {"logits": s, "loss": None}, None),
    "a tuple": (lambda s: (s, s * 2), lambda out: out[0]),
    "a dictionary of another name": (lambda s: {"scores": s}, lambda out: out["scores"]),
    "a map per class": (lambda s: s[:, :, None, None], lambda out: out.flatten(1)),
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("method", ["grad_cam", "is_cam"])
def test_output_gives_the_maps_of_the_plain_model(kind, method):
    wrap, output = OUTPUTS[kind]
    model, images = Returns(wrap), smooth_images(2, 32, 32)
    net = iscam.Network(model, output=output)
    assert net.layer == "net.features"
    plain = iscam.Network(model.net)
    assert torch.equal(net(images), plain(images))
    assert torch.equal(iscam.explain(net, images, method=method), iscam.explain(plain, images, method=method))
    hot, plain_hot = net.at_temperature(2.5), plain.at_temperature(2.5)
    assert torch.equal(hot.probabilities(images), plain_hot.probabilities(images))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda s: (s, s), ["tuple of (Tensor (2, 5), Tensor (2, 5))", "pass output=lambda out: ..."]),
        (lambda s: {"scores": s}, ["dict with keys 'scores'", "pass output=lambda out: ..."]),
        (lambda s: SimpleNamespace(scores=s), ["SimpleNamespace", "pass output=lambda out: ..."]),
        (lambda s: Outputs(None, s), ["Outputs of (NoneType, Tensor (2, 5))", "output="]),
        (lambda s: None, ["NoneType", "output="]),
        (lambda s: s.long(), ["floating point logits", "int64"]),
        (lambda s: s[None], ["(1, 2, 5)"]),
        (lambda s: s.mean(1), ["one score per image", "probability='sigmoid'"]),
        (lambda s: s[:, :1], ["one score per image", "probability='sigmoid'"]),
        (lambda s: s * float("nan"), ["NaN"]),
    ],
)
def test_output_without_logits_says_what_came(wrap, words):
    with refused(*words):
        iscam.Network(Returns(wrap), "net.features")(smooth_images(2, 32, 32))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda out: out["logits"], ["output fails on the model's return value, tuple of", "TypeError"]),
        (lambda out: out[7], ["output fails", "IndexError"]),
        (lambda out: out, ["output must return the logits as a tensor, not tuple"]),
        ("logits", ["output must be a function or None, not str"]),
    ],
)
def test_wrong_output_function_is_refused(output, words):
    with refused(*words):
        iscam.Network(Returns(lambda s: (s, s)), "net.features", output=output)(smooth_images(2, 32, 32))


ERRORS = [TypeError("forward() missing 1 argument: 'mask'"), KeyError("x"), IndexError("2"), ZeroDivisionError("zero")]
ERRORS += [NotImplementedError(), RuntimeError("two\nlines"), OSError(2, "no file"), Exception("own")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["call", "grad_cam", "score_cam", "confidence", "layer"])
def test_any_error_of_the_model_is_one_line(name, error):
    def fail(s: Tensor) -> Tensor:
        raise error

    model, images = Returns(fail), smooth_images(1, 32, 32)
    with refused("fails on"):
        if name == "layer":
            iscam.Network(model)
        net = iscam.Network(model, "net.features")
        if name == "call":
            net(images)
        elif name == "confidence":
            iscam.confidence(net, images, torch.ones(1, 32, 32), torch.tensor([0]))
        iscam.explain(net, images, method=name)


# ------------------------------------------------------------------------------------------------------- probabilities


def test_softmax_probabilities():
    net, images = iscam.Network(seeded(Cnn)), smooth_images(3, 32, 32)
    assert torch.equal(net.probabilities(images), net(images).softmax(1))
    assert net.scores_to_probabilities(torch.zeros(2, 4)).tolist() == [[0.25] * 4] * 2


def test_sigmoid_probabilities():
    net, images = iscam.Network(seeded(Cnn), probability="sigmoid"), smooth_images(3, 32, 32)
    assert torch.equal(net.probabilities(images), net(images).sigmoid())
    assert net.scores_to_probabilities(torch.zeros(2, 4)).tolist() == [[0.5] * 4] * 2


@pytest.mark.parametrize("squeezed", [False, True])
def test_sigmoid_of_a_single_logit(squeezed):
    """The one class has the probability of the second of two softmax classes with logits (0, s)."""
    single = Returns(lambda s: s[:, 0] if squeezed else s, classes=1)
    double = Returns(lambda s: torch.cat([0 * s, s], 1))
    double.net = single.net
    images = smooth_images(3, 32, 32)
    one = iscam.Network(single, "net.features", probability="sigmoid")
    two = iscam.Network(double, "net.features")
    assert one(images).shape == (3, 1)
    torch.testing.assert_close(one.probabilities(images)[:, 0], two.probabilities(images)[:, 1])
    for method in ("grad_cam", "score_cam"):
        found, expected = (
            iscam.explain(net, images, torch.full((3,), target), method=method) for net, target in ((one, 0), (two, 1))
        )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("probability", ["Softmax", "", None, 3, ["softmax"]])
def test_wrong_probability_is_refused(probability):
    with refused("probability", "softmax, sigmoid"):
        iscam.Network(seeded(Cnn), "features", probability=probability)


def test_temperature_scales_logits():
    net, images = iscam.Network(seeded(Cnn), "features"), smooth_images(2, 32, 32)
    cold = net.at_temperature(0.5)
    torch.testing.assert_close(cold(images), 2 * net(images))
    assert cold.layer == "model.features"
    assert "temperature=0.5" in repr(cold.model)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "2", None, True, [1], 1j])
def test_wrong_temperature_is_refused(temperature):
    with refused("temperature must be a finite number above 0"):
        iscam.Network(seeded(Cnn), "features").at_temperature(temperature)


# ------------------------------------------------------------------------------------------------------------ warnings


@pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("wrap", "kind", "inverse"),
    [
        (lambda s: s.softmax(1), "softmax", torch.log),
        (lambda s: s.sigmoid(), "sigmoid", torch.logit),
        (lambda s: s.sigmoid()[..., None].squeeze(2), "sigmoid", torch.logit),
    ],
)
def test_probabilities_as_output_warn_once(wrap, kind, inverse, probability):
    model, images = Returns(wrap), smooth_images(2, 32, 32)
    net = iscam.Network(model, probability=probability)
    remedy = f"probability='{kind}' and output=torch.{inverse.__name__}"
    with pytest.warns(UserWarning, match=f"seems to return probabilities.*{remedy}") as caught:
        net(images)
        forward_record(net, images[0])
        net.with_layer("net.features.0")(images)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="seems to return probabilities"):  # another network has not warned yet
        forward_record(iscam.Network(model, "net.features", probability=probability), images[0])
    repaired, plain = (iscam.Network(m, output=o, probability=kind) for m, o in ((model, inverse), (model.net, None)))
    torch.testing.assert_close(repaired.probabilities(images), plain.probabilities(images))


@pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: 0.4 + 1e-3 * s, lambda s: s.relu() * 1e-3, lambda s: 5 * s])
def test_logits_within_0_and_1_do_not_warn(wrap, probability):
    net = iscam.Network(Returns(wrap), "net.features", probability=probability)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(smooth_images(4, 32, 32))
        forward_record(net, smooth_images(1, 32, 32)[0])


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (nn.functional.dropout, "change from pass to pass, so its maps are random"),
        (lambda x: x - x.mean(0) / 2, "depend on the rest of its batch, so its maps do, too"),
    ],
    ids=["random", "batch"],
)
def test_unrepeatable_scores_warn_once(end, message):
    with pytest.warns(UserWarning, match=f"Cnn: the class scores of an image {message}") as caught:
        net = iscam.Network(seeded(lambda: Cnn(end=end)))
        iscam.explain(net, smooth_images(1, 32, 32), 1, method="grad_cam")
    assert len(caught) == 1


def test_scores_of_low_precision_do_not_warn():
    for dtype in (torch.bfloat16, torch.float16):
        assert iscam.Network(seeded(Cnn).to(dtype)).layer == "features"


class Shared(nn.Module):
    """One module that runs twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(x).relu()).mean((2, 3)))


def test_layer_that_runs_twice_warns_once():
    model, images = seeded(Shared), smooth_images(2, 16, 16)
    net = iscam.Network(model)
    with pytest.warns(
        UserWarning, match="'layer' runs 2 times in a forward pass; maps explain its last output"
    ) as caught:
        maps = iscam.explain(net, images, 1, method="grad_cam")
        iscam.explain(net, images, 1, method="grad_cam")
    assert len(caught) == 1
    plain = copy.deepcopy(model)
    plain.layer = nn.Identity()
    plain.forward = lambda x: model.head(plain.layer(model.layer(model.layer(x).relu())).mean((2, 3)))
    torch.testing.assert_close(iscam.explain(iscam.Network(plain, "layer"), images, 1, method="grad_cam"), maps)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "score_cam", "is_cam", "identity"])
def test_activations_that_are_not_finite_are_refused(value, method):
    """The logits are finite, because the head leaves the channel out."""

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.bad(self.features(x))[:, :3].mean((2, 3)))

    model = seeded(Hidden)
    model.bad = Apply(lambda a: a.index_fill(1, torch.tensor([3]), value))
    assert iscam.Network(model, "bad")(smooth_images(1, 16, 16)).isfinite().all()
    with refused("layer 'bad' returned NaN or infinite activations"):
        iscam.explain(iscam.Network(model, "bad"), smooth_images(1, 16, 16), method=method)


# ------------------------------------------------------------------------------------------------------------- threads


class Slow(nn.Module):
    """Lets other threads run in the middle of a forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.002)
        return x


def slow_network(training: bool = False) -> nn.Module:
    """Dropout and batch normalisation tell the modes apart; `Slow` modules stand around the explained layer."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            Slow(),
            nn.Conv2d(6, 4, 3),
            Slow(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        )
    )
    return model.train(training)


OPTIONS = {"grad_cam": {}, "cam": {}, "score_cam": {}, "is_cam": {"steps": 3}, "ss_cam": {"samples": 3}}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", OPTIONS)
def test_threads_get_the_maps_of_one_thread(method, training):
    model, images = slow_network(training), smooth_images(16, 20, 20)
    expected = iscam.explain(iscam.Network(slow_network(), "4"), images, method=method, **OPTIONS[method])
    net = iscam.Network(model, "4")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: iscam.explain(net, x[None], method=method, **OPTIONS[method])[0], images))
    torch.testing.assert_close(torch.stack(found), expected, atol=1e-6, rtol=0)
    assert all(module.training is training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_threads_find_the_automatic_layer():
    model = slow_network(True)
    with ThreadPoolExecutor(4) as pool:
        layers = list(pool.map(lambda _: iscam.Network(model).layer, range(12)))
    assert set(layers) == {"4"}
    assert all(module.training for module in model.modules())


def test_threads_in_training_mode_agree_on_confidence():
    model, images, maps = slow_network(True), smooth_images(12, 20, 20), torch.full((1, 20, 20), 0.5)
    original, explained = iscam.confidence(iscam.Network(slow_network(), "4"), images, maps.expand(12, -1, -1))
    net = iscam.Network(model, "4")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: torch.cat(iscam.confidence(net, x[None], maps)), images))
    torch.testing.assert_close(torch.stack(found, 1), torch.stack([original, explained]), atol=1e-6, rtol=0)
    assert all(module.training for module in model.modules())


def test_thread_that_fails_leaves_the_others_alone():
    """One thread's images make the model fail while another is inside its forward pass."""
    model, images = slow_network(True), smooth_images(8, 20, 20)
    expected = iscam.explain(iscam.Network(slow_network(), "4"), images, 1, method="grad_cam")
    net, found, stop = iscam.Network(model, "4"), [], threading.Event()

    def fail() -> None:
        while not stop.is_set():
            with refused("the model fails"):
                iscam.explain(net, torch.zeros(1, 3, 4, 4), method="grad_cam")

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        found = [iscam.explain(net, x[None], 1, method="grad_cam")[0] for x in images]
    finally:
        stop.set()
        thread.join()
    torch.testing.assert_close(torch.stack(found), expected, atol=1e-6, rtol=0)
    assert all(module.training for module in model.modules())


# -------------------------------------------------------------------------------------------------------- the network


def test_as_network_wraps_a_bare_module():
    model = seeded(Cnn)
    net = as_network(model)
    assert (net.layer, net.model) == ("features", model)
    assert as_network(net) is net
    for other in (None, "resnet18", lambda x: x, 3):
        with refused("iscam.Network or a torch.nn.Module", type(other).__name__):
            as_network(other)


def test_replace_keeps_the_other_fields():
    net = iscam.Network(seeded(Cnn), "features", output=lambda out: out, probability="sigmoid", categories=["a", "b"])
    other = dataclasses.replace(net, layer="features.0")
    assert other.layer == "features.0"
    for name in ("model", "layout", "output", "probability", "transform", "categories"):
        assert getattr(other, name) == getattr(net, name)
    assert other.caches is not net.caches
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.layer = "features.0"


def test_with_layer_shares_the_caches():
    net = iscam.Network(seeded(Cnn), "features")
    other = net.with_layer("features.0")
    assert other.caches is net.caches
    assert (net.layer, other.layer, other.with_layer(None).layer) == ("features", "features.0", "features")
    other.caches.batch_sizes["key"] = 1
    net.clear_caches()
    assert not other.caches.batch_sizes


def test_copies_of_a_network_have_their_own_caches():
    net = iscam.Network(seeded(Cnn), "features")
    net.caches.batch_sizes["key"] = 1
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.layer == "features"
        assert not other.caches.batch_sizes
        assert torch.equal(other(torch.zeros(1, 3, 32, 32)), net(torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize("device", ["cuda:99", "banana", "", 3.5, "meta"])
def test_device_that_is_not_there_is_refused(device):
    with refused("device"):
        net = iscam.Network(seeded(Cnn), "features").to(device)
        iscam.explain(net, torch.zeros(1, 3, 16, 16, device="meta"))


def test_categories():
    net = iscam.Network(seeded(Cnn), "features", categories={1: "b", 0: "a"})
    assert net.categories == ("a", "b")
    assert net.category(1) == "b"
    assert iscam.Network(seeded(Cnn), "features").category(1) == "class 1"
    with refused("class 2 has no name"):
        net.category(2)
    for target in (1.0, "1", None, -1, True):
        with refused("target"):
            net.category(target)
    for categories in ({1: "a", 2: "b"}, "ab", 3, {"a": 0}):
        with refused("categories"):
            iscam.Network(seeded(Cnn), "features", categories=categories)


def test_transform_that_is_no_function_is_refused():
    with refused("transform must be a function or None, not str"):
        iscam.Network(seeded(Cnn), "features", transform="resize")


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_scripted_and_exported_models_are_refused():
    model, images = seeded(Cnn), smooth_images(1, 32, 32)
    scripted = torch.jit.trace(model, images)
    exported = torch.export.export(model, (images,)).module()
    for layer in ("features", None):
        with refused("scripted or traced"):
            iscam.Network(scripted, layer)
        with refused("exported model"):
            iscam.Network(exported, layer)
    wrapped = nn.Sequential(OrderedDict(inner=scripted))
    for layer in ("inner.features", "inner", None):
        with refused("scripted or traced"):
            iscam.explain(iscam.Network(wrapped, layer), images, method="grad_cam")
    with refused("exported model"):
        iscam.explain(iscam.Network(nn.Sequential(exported, nn.Identity()), "1"), images, method="grad_cam")


def test_symbolic_traces_are_explained():
    model, images = seeded(Cnn), smooth_images(1, 32, 32)
    net = iscam.Network(torch.fx.symbolic_trace(model))
    assert net.layer == "features.3"
    expected = iscam.explain(iscam.Network(model), images, method="grad_cam")
    torch.testing.assert_close(iscam.explain(net, images, method="grad_cam"), expected, atol=1e-6, rtol=0)


def test_compiled_model_is_explained_as_the_original():
    model, images = bias_free(), smooth_images(1, 20, 16)
    compiled = torch.compile(model, backend="eager")
    expected = iscam.explain(iscam.Network(model, "features"), images, method="grad_cam")
    found = iscam.explain(iscam.Network(compiled, "_orig_mod.features"), images, method="grad_cam")
    assert torch.equal(found, expected)


def test_autocast_of_the_caller_changes_nothing():
    net, images = iscam.Network(seeded(Cnn)), smooth_images(1, 32, 32)
    logits, maps = net(images), iscam.explain(net, images, method="grad_cam")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(images), logits)
        assert torch.equal(iscam.explain(net, images, method="grad_cam"), maps)
