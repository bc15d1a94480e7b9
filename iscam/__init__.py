"""Saliency maps with IS-CAM, SS-CAM, Score-CAM and related methods, metrics for the maps, and studies.

Every CAM method computes  L = ReLU(Σ_k α_k A_k)  and has its own rule for the weights α. See `explain`.
"""

from importlib.metadata import version

from iscam import menagerie
from iscam.data import load_images
from iscam.errors import ClusterError, DownloadError, InputError, IscamError, StoreError
from iscam.explanation import Explanation, explain
from iscam.interop import captum_attribution, quantus_explain
from iscam.maps import ssim
from iscam.methods import CONTROLS, METHODS, Method
from iscam.metrics import METRICS, Metric
from iscam.metrics.adcc import adcc, coherency, complexity
from iscam.metrics.confidence import average_drop, average_gain, average_increase, confidence, win
from iscam.metrics.curves import Curves, deletion, insertion
from iscam.metrics.ground_truth import decisive_part, pair_importance, part_correlation, part_importance
from iscam.metrics.localisation import energy, pointing_game
from iscam.metrics.sanity import randomised, shifted
from iscam.model import Network
from iscam.record import ForwardRecord
from iscam.study import Study, paired, run_study, summary
from iscam.zoo import load_model

__version__ = version("iscam")

__all__ = [
    "CONTROLS",
    "METHODS",
    "METRICS",
    "ClusterError",
    "Curves",
    "DownloadError",
    "Explanation",
    "ForwardRecord",
    "InputError",
    "IscamError",
    "Method",
    "Metric",
    "Network",
    "StoreError",
    "Study",
    "adcc",
    "average_drop",
    "average_gain",
    "average_increase",
    "captum_attribution",
    "coherency",
    "complexity",
    "confidence",
    "decisive_part",
    "deletion",
    "energy",
    "explain",
    "insertion",
    "load_images",
    "load_model",
    "menagerie",
    "pair_importance",
    "paired",
    "part_correlation",
    "part_importance",
    "pointing_game",
    "quantus_explain",
    "randomised",
    "run_study",
    "shifted",
    "ssim",
    "summary",
    "win",
]
