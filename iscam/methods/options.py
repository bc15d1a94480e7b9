"""The options of the methods. Each class checks its values, so a study with invalid options fails before any pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from iscam.engine.scoring import Scoring
from iscam.errors import InputError
from iscam.methods.schedules import MOST_NODES, MOST_STEPS, Schedule, quadrature
from iscam.validation import check_choice, check_int, check_non_negative

BASELINES = (None, "zeros")
NORMALISATIONS = ("upsampled", "layer")
COLOURS = ("max_abs", "sum_abs", "abs_sum", "positive_sum")


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a method that has none."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Scoring):
    """Options of the methods that score masked images, in addition to those of `iscam.engine.scoring.Scoring`.

    - `channel_softmax`: apply a softmax to the weights across channels, as in the Score-CAM paper's Algorithm 1.
    - `baseline`: "zeros" subtracts C(0), the score of the mean-grey image. It has no effect with a channel softmax.
    - `normalise`: scale the masks to [0, 1] after upsampling ("upsampled") or before upsampling ("layer").
    - `channels`: score only this number of channels, those of largest standard deviation over the positions, as in
      Faster Score-CAM. All other channels have weight 0. None scores all channels.
    """

    channel_softmax: bool = False
    baseline: str | None = None
    normalise: str = "upsampled"
    channels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("channel_softmax", self.channel_softmax, (False, True))
        check_choice("baseline", self.baseline, BASELINES)
        check_choice("normalise", self.normalise, NORMALISATIONS)
        if self.channels is not None:
            check_int("channels", self.channels)


@dataclass(frozen=True, kw_only=True)
class IsCamOptions(ScoreOptions):
    """Options of `is_cam`: those of `ScoreOptions`, and `steps`, `schedule` and `nodes` (see `is_cam`)."""

    steps: int = 15
    schedule: Schedule = "cumulative"
    nodes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        quadrature(self.steps, self.schedule, self.nodes)  # raises InputError for invalid values


@dataclass(frozen=True, kw_only=True)
class SsCamOptions(ScoreOptions):
    """Options of `ss_cam`: those of `ScoreOptions`, and `samples`, `sigma` and `seed` (see `ss_cam`)."""

    samples: int = 15
    sigma: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.samples, self.sigma, self.seed)


@dataclass(frozen=True, kw_only=True)
class GatedOptions(Scoring):
    """Options of `score_cam_pp`: those of `iscam.engine.scoring.Scoring`, and `baseline`.

    - `baseline`: "zeros" subtracts C(0), the score of the mean-grey image. None subtracts nothing.
    """

    baseline: str | None = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, BASELINES)


@dataclass(frozen=True, kw_only=True)
class SmoothOptions:
    """Options of `smooth_grad_cam_pp`: the number of noisy copies, the noise level `sigma` and the noise's `seed`."""

    samples: int = 15
    sigma: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_noise(self.samples, self.sigma, self.seed)


@dataclass(frozen=True, kw_only=True)
class AblationOptions:
    """Options of `ablation_cam`: `score` and `batch_size` as in `iscam.engine.scoring.Scoring`."""

    score: str = "logit"
    batch_size: str | int = "auto"

    def __post_init__(self) -> None:
        Scoring(score=self.score, batch_size=self.batch_size)  # raises InputError for invalid values


@dataclass(frozen=True, kw_only=True)
class ReciproOptions(AblationOptions):
    """Options of `recipro_cam`: `score` and `batch_size` as in `iscam.engine.scoring.Scoring`, and `gaussian`.

    - `gaussian`: spread the activations of the kept position over its 3x3 neighbours.
    """

    score: str = "probability"
    gaussian: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("gaussian", self.gaussian, (False, True))


@dataclass(frozen=True, kw_only=True)
class OptiOptions:
    """Options of `opti_cam`.

    - `steps`: the number of steps of the optimisation, at most 1,000,000.
    - `learning_rate`: the learning rate of Adam.
    """

    steps: int = 50
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        check_int("steps", self.steps, maximum=MOST_STEPS)
        check_non_negative("learning_rate", self.learning_rate)


@dataclass(frozen=True, kw_only=True)
class SaliencyOptions:
    """Option of `saliency` and `guided_backprop`.

    `colours` merges the values w_c of the image's channels at one pixel into one value:

    - "max_abs": max_c abs(w_c), as in Simonyan et al.
    - "sum_abs": Σ_c abs(w_c).
    - "abs_sum": abs(Σ_c w_c).
    - "positive_sum": max(0, Σ_c w_c).
    """

    colours: str = "max_abs"

    def __post_init__(self) -> None:
        check_choice("colours", self.colours, COLOURS)


@dataclass(frozen=True, kw_only=True)
class SmoothGradOptions(SmoothOptions):
    """Options of `smoothgrad`: those of `SmoothOptions`, and `colours` (see `SaliencyOptions`)."""

    samples: int = 50
    colours: str = "sum_abs"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("colours", self.colours, COLOURS)


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientsOptions:
    """Options of `integrated_gradients`: the number of `steps` (at most 1,000) and `colours`, see `SaliencyOptions`."""

    steps: int = 50
    colours: str = "positive_sum"

    def __post_init__(self) -> None:
        check_int("steps", self.steps, maximum=MOST_NODES)
        check_choice("colours", self.colours, COLOURS)


@dataclass(frozen=True, kw_only=True)
class RiseOptions(Scoring):
    """Options of `rise`, in addition to those of `iscam.engine.scoring.Scoring`.

    - `masks`: the number of masks N, at most 1,000,000.
    - `cells`: the number of cells s per side of a mask's grid.
    - `keep`: the probability p, between 0 and 1, that a cell is kept.
    - `seed`: the seed of the grids and shifts.
    """

    masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("masks", self.masks, maximum=MOST_STEPS)
        check_int("cells", self.cells, maximum=MOST_NODES)
        if not 0 < check_non_negative("keep", self.keep) < 1:
            raise InputError(f"keep must be a number between 0 and 1, both excluded, not {self.keep!r}")
        check_int("seed", self.seed, minimum=0)


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Options of `mask`: the number of `iterations`, the factors `l1` and `tv` of the penalties, and the `seed`."""

    iterations: int = 300
    l1: float = 1e-4
    tv: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("iterations", self.iterations, maximum=MOST_STEPS)
        check_non_negative("l1", self.l1)
        check_non_negative("tv", self.tv)
        check_int("seed", self.seed, minimum=0)


@dataclass(frozen=True, kw_only=True)
class RandomOptions:
    """Option of the control `random`: the `seed` of its noise."""

    seed: int = 0

    def __post_init__(self) -> None:
        check_int("seed", self.seed, minimum=0)


def check_noise(samples: int, sigma: float, seed: int) -> None:
    check_int("samples", samples, maximum=MOST_STEPS)
    check_non_negative("sigma", sigma)
    check_int("seed", seed, minimum=0)


class MethodOptions(TypedDict, total=False):
    """The options of all methods, for editors and type checkers. Each method accepts only the options of its class."""

    score: str
    channel_softmax: bool
    baseline: str | None
    normalise: str
    channels: int | None
    precision: str
    compile: bool
    batch_size: str | int
    steps: int
    schedule: Schedule
    nodes: int | None
    samples: int
    sigma: float
    seed: int
    gaussian: bool
    learning_rate: float
    colours: str
    masks: int
    cells: int
    keep: float
    iterations: int
    l1: float
    tv: float
