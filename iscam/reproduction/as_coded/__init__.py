r"""The settings and conventions in the IS-CAM authors' notebook, separate from the canonical ones.

They explain the published tables. No claim depends on them, and outside `iscam.reproduction` no module uses them. They
were implemented from a description of two public files, `Resnet18_trial_visualize.ipynb` and `risemetrics_final.py` of
`ankitaghosh9/Variations-on-Score-CAM@451c147` (17 September 2020, shortly before the paper). It is an inference that
these files, with these settings, produced the tables. If the description leaves a choice open, the docstring says so.

X is the image and L its map in [0, 1]. Y and O are the class probabilities of X and of X ∘ L.
"""

from iscam.reproduction.as_coded.bounds import SAVED_EXAMPLE as SAVED_EXAMPLE
from iscam.reproduction.as_coded.bounds import SLICE as SLICE
from iscam.reproduction.as_coded.bounds import bound as bound
from iscam.reproduction.as_coded.bounds import readings as readings
from iscam.reproduction.as_coded.boxes import cropped_boxes as cropped_boxes
from iscam.reproduction.as_coded.boxes import disc as disc
from iscam.reproduction.as_coded.boxes import original_boxes as original_boxes
from iscam.reproduction.as_coded.boxes import original_sizes as original_sizes
from iscam.reproduction.as_coded.methods import LARGEST_EXPONENT as LARGEST_EXPONENT
from iscam.reproduction.as_coded.methods import METHODS as METHODS
from iscam.reproduction.as_coded.methods import explain as explain
from iscam.reproduction.as_coded.methods import smooth_grad_cam_pp as smooth_grad_cam_pp
from iscam.reproduction.as_coded.metrics import THRESHOLD as THRESHOLD
from iscam.reproduction.as_coded.metrics import Confidence as Confidence
from iscam.reproduction.as_coded.metrics import Values as Values
from iscam.reproduction.as_coded.metrics import average_drop as average_drop
from iscam.reproduction.as_coded.metrics import both_conventions as both_conventions
from iscam.reproduction.as_coded.metrics import confidence as confidence
from iscam.reproduction.as_coded.metrics import energy as energy
from iscam.reproduction.as_coded.metrics import first_point_zero as first_point_zero
from iscam.reproduction.as_coded.metrics import marked as marked
from iscam.reproduction.as_coded.metrics import share as share
from iscam.reproduction.as_coded.metrics import swapped_box as swapped_box
from iscam.reproduction.as_coded.metrics import win as win
