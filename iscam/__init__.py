"""IS-CAM, SS-CAM, Score-CAM and their relatives: maps, metrics, studies.

Every method is  L = ReLU(Σ_k α_k A_k)  with its own weights α; see `explain`.
"""

from iscam import menagerie as menagerie
from iscam.data import load_images as load_images
from iscam.errors import InputError as InputError
from iscam.explain import CONTROLS as CONTROLS
from iscam.explain import explain as explain
from iscam.methods import METHODS as METHODS
from iscam.metrics import METRICS as METRICS
from iscam.metrics.faithfulness import Curves as Curves
from iscam.metrics.faithfulness import average_drop as average_drop
from iscam.metrics.faithfulness import average_increase as average_increase
from iscam.metrics.faithfulness import confidence as confidence
from iscam.metrics.faithfulness import deletion as deletion
from iscam.metrics.faithfulness import insertion as insertion
from iscam.metrics.faithfulness import win as win
from iscam.metrics.ground_truth import decisive_part as decisive_part
from iscam.metrics.ground_truth import mask_energy as mask_energy
from iscam.metrics.ground_truth import part_correlation as part_correlation
from iscam.metrics.ground_truth import part_importance as part_importance
from iscam.metrics.localisation import energy as energy
from iscam.metrics.sanity import randomised as randomised
from iscam.metrics.sanity import shifted as shifted
from iscam.metrics.sanity import ssim as ssim
from iscam.network import Network as Network
from iscam.network import load_model as load_model
from iscam.results import paired as paired
from iscam.results import published as published
from iscam.results import summary as summary
from iscam.study import Study as Study
from iscam.study import run_study as run_study
