"""The methods. Each is a function from a `ForwardRecord` to the weights α of  L = ReLU(Σ_k α_k A_k)."""

from iscam.methods.controls import CONTROLS as CONTROLS
from iscam.methods.gradient import GRADIENT_METHODS
from iscam.methods.registry import Method as Method
from iscam.methods.registry import find_method as find_method
from iscam.methods.score import SCORE_METHODS

#: The methods by name.
METHODS: dict[str, Method] = {**GRADIENT_METHODS, **SCORE_METHODS}
