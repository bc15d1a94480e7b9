"""The saliency methods. Each is a function from a `ForwardRecord` to the weights α of  L = ReLU(Σ_k α_k A_k).

Attribution methods return the map L itself.
"""

from iscam.methods.method import Method as Method
from iscam.methods.method import find_method as find_method
from iscam.methods.registry import CONTROLS as CONTROLS
from iscam.methods.registry import METHODS as METHODS
