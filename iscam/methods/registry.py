"""The registries of the methods, `METHODS`, and of the controls, `CONTROLS`."""

from __future__ import annotations

from iscam.methods import ablation, controls, gradient, input_gradients, occlusion, optimisation, score
from iscam.methods.method import Method
from iscam.methods.options import (
    AblationOptions,
    GatedOptions,
    IntegratedGradientsOptions,
    IsCamOptions,
    MaskOptions,
    OptiOptions,
    RandomOptions,
    ReciproOptions,
    RiseOptions,
    SaliencyOptions,
    ScoreOptions,
    SmoothGradOptions,
    SmoothOptions,
    SsCamOptions,
)
from iscam.methods.schedules import quadrature

#: Cost of a gradient in passes: one forward pass, and one backward pass that takes about twice as much work.
GRADIENT_PASSES = 3

#: Cost of the check whether the part of a network behind the layer can run alone, in passes.
CHECK_PASSES = 4


def one_pass(channels: int, options: object) -> int:
    return 1


def gradient_passes(channels: int, options: object) -> int:
    return GRADIENT_PASSES


def smooth_passes(channels: int, options: SmoothOptions) -> int:
    return GRADIENT_PASSES * (1 + options.samples)


def scored(channels: int, options: ScoreOptions) -> int:
    """Return the number of channels that a score method scores."""
    return channels if options.channels is None else min(channels, options.channels)


def score_passes(channels: int, options: ScoreOptions) -> int:
    return 1 + scored(channels, options)


def ss_cam_passes(channels: int, options: SsCamOptions) -> int:
    return 1 + scored(channels, options) * options.samples


def is_cam_passes(channels: int, options: IsCamOptions) -> int:
    return 1 + scored(channels, options) * len(quadrature(options.steps, options.schedule, options.nodes)[0])


def gated_passes(channels: int, options: GatedOptions) -> int:
    return 1 + channels + (options.baseline is not None)


def grad_pp_score_passes(channels: int, options: ScoreOptions) -> int:
    return GRADIENT_PASSES + scored(channels, options)


def ablation_passes(channels: int, options: AblationOptions) -> int:
    return 2 + CHECK_PASSES + channels


def recipro_passes(positions: int, options: ReciproOptions) -> int:
    return 1 + CHECK_PASSES + positions


def opti_passes(channels: int, options: OptiOptions) -> int:
    return 1 + GRADIENT_PASSES * options.steps


def saliency_passes(channels: int, options: SaliencyOptions) -> int:
    return 1 + GRADIENT_PASSES


def guided_passes(channels: int, options: SaliencyOptions) -> int:
    return 2 + GRADIENT_PASSES  # one more forward pass counts the ReLUs


def smoothgrad_passes(channels: int, options: SmoothGradOptions) -> int:
    return 1 + GRADIENT_PASSES * options.samples


def integrated_passes(channels: int, options: IntegratedGradientsOptions) -> int:
    return 1 + GRADIENT_PASSES * options.steps


def rise_passes(channels: int, options: RiseOptions) -> int:
    return 1 + options.masks


def mask_passes(channels: int, options: MaskOptions) -> int:
    return 1 + len(occlusion.RADII) + GRADIENT_PASSES * options.iterations


#: The methods by name. Those with `kind="map"` return a map, and the others return the weights of a layer's channels.
METHODS: dict[str, Method] = {
    "cam": Method(gradient.cam, "CAM", "weights of the class in the last layer", one_pass, in_batches=True),
    "grad_cam": Method(
        gradient.grad_cam, "Grad-CAM", "mean gradient of the class's logit", gradient_passes, in_batches=True
    ),
    "grad_cam_pp": Method(
        gradient.grad_cam_pp, "Grad-CAM++", "positive gradients, weighted by position", gradient_passes, in_batches=True
    ),
    "smooth_grad_cam_pp": Method(
        gradient.smooth_grad_cam_pp,
        "Smooth Grad-CAM++",
        "the same, averaged over noisy copies",
        smooth_passes,
        options=SmoothOptions,
    ),
    "score_cam": Method(
        score.score_cam, "Score-CAM", "probability of the image behind each mask", score_passes, options=ScoreOptions
    ),
    "ss_cam": Method(score.ss_cam, "SS-CAM", "the same, averaged over noise", ss_cam_passes, options=SsCamOptions),
    "is_cam": Method(
        score.is_cam,
        "IS-CAM",
        "the same, averaged over scaled masked images",
        is_cam_passes,
        options=IsCamOptions,
    ),
    "layer_cam": Method(
        gradient.layer_cam, "Layer-CAM", "positive gradient at each position", gradient_passes, in_batches=True
    ),
    "xgrad_cam": Method(
        gradient.xgrad_cam, "XGrad-CAM", "mean gradient, weighted by the activations", gradient_passes, in_batches=True
    ),
    "ablation_cam": Method(
        ablation.ablation_cam,
        "Ablation-CAM",
        "logit lost without the channel",
        ablation_passes,
        options=AblationOptions,
    ),
    "score_cam_pp": Method(
        score.score_cam_pp,
        "Score-CAM++",
        "probability of the image behind each gate",
        gated_passes,
        options=GatedOptions,
        kind="map",
    ),
    "grad_pp_score_cam": Method(
        score.grad_pp_score_cam,
        "Grad++ScoreCAM (reconstruction)",
        "sum of the maps of Grad-CAM++ and Score-CAM",
        grad_pp_score_passes,
        options=ScoreOptions,
        kind="map",
    ),
    "recipro_cam": Method(
        ablation.recipro_cam,
        "Recipro-CAM",
        "probability if one position is kept",
        recipro_passes,
        options=ReciproOptions,
        kind="map",
        cost_of="position",
    ),
    "opti_cam": Method(
        optimisation.opti_cam,
        "Opti-CAM",
        "weights optimised for the logit behind the map",
        opti_passes,
        options=OptiOptions,
    ),
    "saliency": Method(
        input_gradients.saliency,
        "Saliency",
        "gradient with respect to the image",
        saliency_passes,
        options=SaliencyOptions,
        kind="map",
        in_batches=True,
    ),
    "guided_backprop": Method(
        input_gradients.guided_backprop,
        "Guided backpropagation",
        "image gradient, only positive values through ReLUs",
        guided_passes,
        options=SaliencyOptions,
        kind="map",
        in_batches=True,
    ),
    "smoothgrad": Method(
        input_gradients.smoothgrad,
        "SmoothGrad",
        "image gradient, averaged over noisy copies",
        smoothgrad_passes,
        options=SmoothGradOptions,
        kind="map",
    ),
    "integrated_gradients": Method(
        input_gradients.integrated_gradients,
        "Integrated Gradients",
        "image times its gradient on a path from grey",
        integrated_passes,
        options=IntegratedGradientsOptions,
        kind="map",
    ),
    "rise": Method(
        occlusion.rise,
        "RISE",
        "mean of random masks, weighted by the score",
        rise_passes,
        options=RiseOptions,
        kind="map",
    ),
    "mask": Method(
        occlusion.mask,
        "Mask",
        "smallest smooth blur that hides the class",
        mask_passes,
        options=MaskOptions,
        kind="map",
    ),
}

#: Maps that do not depend on the network, by name.
CONTROLS: dict[str, Method] = {
    "identity": Method(controls.identity, "identity", "a map of ones", one_pass, kind="map"),
    "random": Method(controls.random_map, "random", "smooth noise", one_pass, options=RandomOptions, kind="map"),
}
