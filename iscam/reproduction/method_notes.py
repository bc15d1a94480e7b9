"""How each method fails, in one line for the page that compares all methods."""

from __future__ import annotations

import pandas as pd

from iscam.methods import METHODS
from iscam.record import ForwardRecord
from iscam.reproduction.names import method_summary, method_title

#: Method -> how its maps fail, or what limits them.
LIMITS = {
    "cam": "needs a network that ends in average pooling and one linear layer",
    "grad_cam": "one weight per channel: evidence for the class at one position and against it at another cancels",
    "grad_cam_pp": "ignores negative gradients, so evidence against the class is not subtracted",
    "smooth_grad_cam_pp": "equals Grad-CAM++ for linear heads, where the gradient is the same for every image",
    "score_cam": "masked images are unlike the training images, and a mask that hides little scores high",
    "ss_cam": "the limits of Score-CAM, at N times its cost",
    "is_cam": "the limits of Score-CAM, at N times its cost",
    "layer_cam": "close to Grad-CAM at a late layer; marks edges at an early layer",
    "xgrad_cam": "equals Grad-CAM for linear heads; unstable if the activations of a channel sum to almost zero",
    "ablation_cam": "channels that can replace each other get small weights; a negative logit turns the map around",
    "score_cam_pp": "large activations give masks that are almost binary; negative ones invert the image",
    "grad_pp_score_cam": "reconstructed from an abstract; the published equations are unknown",
    "recipro_cam": "a single position is unlike the activations of any image",
    "opti_cam": "optimises almost the quantity that average drop measures, so a small drop is no evidence for it",
    "saliency": "noisy, and small where the network is saturated",
    "guided_backprop": "draws edges, and hardly depends on the class (arXiv 1805.07039)",
    "smoothgrad": "small where the network is saturated; the level of the noise is a free choice",
    "integrated_gradients": "depends on the baseline: pixels that are grey, like the baseline, get no attribution",
    "rise": "random: with few masks, the map shows the masks; blurred by the size of a cell",
    "mask": "depends on its start, its penalties and the number of iterations",
}


def method_table(record: ForwardRecord) -> pd.DataFrame:
    """Return a row per method: how it works, how it fails, and the passes of one map for the network of the record."""
    channels, positions = len(record.activations), record.activations[0].numel()
    return pd.DataFrame(
        {
            "method": method_title(name),
            "how it works": method_summary(name),
            "how it fails": LIMITS[name],
            "passes": entry.cost(channels, positions, entry.options()),
        }
        for name, entry in METHODS.items()
    )
