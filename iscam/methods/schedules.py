"""The schedules of IS-CAM: scale factors t and their weights w."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.validation import check_int, check_non_negative, unknown_choice

SCHEDULES = ("cumulative", "linear", "integral")

#: The largest number of steps of a schedule, and of samples.
MOST_STEPS = 1_000_000

#: The largest number of nodes of a Gauss rule, which needs a matrix of this size.
MOST_NODES = 1000

#: The name of a schedule, or the scale factors themselves.
Schedule = str | Sequence[float] | np.ndarray | Tensor


def quadrature(steps: int, schedule: Schedule, nodes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the scale factors t (N,) and the weights w (N,) of the scored inputs t X ∘ H. The weights sum to 1.

    `steps`, `schedule` and `nodes` are the options of `is_cam`, whose docstring defines them.
    """
    steps = check_int("steps", steps, maximum=MOST_STEPS)
    if not isinstance(schedule, str):
        return given_factors(schedule, nodes)
    if schedule not in SCHEDULES:
        raise unknown_choice("schedule", schedule, [*SCHEDULES, "or a sequence of numbers"])
    count = steps if nodes is None else check_int("nodes", nodes, maximum=MOST_NODES)
    if schedule == "integral":
        check_int("the number of steps of the schedule 'integral' without nodes", count, maximum=MOST_NODES)
        x, w = np.polynomial.legendre.leggauss(count)
        t, w = (x + 1) / 2, w / 2
    else:
        i, w = discrete_gauss(steps, count)
        t = i * (i + 1) / (2 * steps) if schedule == "cumulative" else i / steps
    return torch.from_numpy(t).float(), torch.from_numpy(w).float()


def given_factors(schedule: object, nodes: int | None) -> tuple[Tensor, Tensor]:
    """Return the user's scale factors, with equal weights."""
    if isinstance(schedule, Tensor | np.ndarray):
        schedule = schedule.tolist()
    if not isinstance(schedule, Sequence):
        raise unknown_choice("schedule", schedule, [*SCHEDULES, "or a sequence of numbers"])
    if nodes is not None:
        raise InputError(f"nodes needs a named schedule ({', '.join(SCHEDULES)}), not a sequence")
    if len(schedule) == 0:
        raise InputError("the schedule is empty; give at least one number")
    t = torch.tensor([check_non_negative("each number of the schedule", value) for value in schedule], device="cpu")
    return t.float(), torch.full((len(t),), 1 / len(t), device="cpu")


def discrete_gauss(steps: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of the Gauss rule for the mean over i = 1..steps.

    The rule is exact for every polynomial of degree < 2 nodes. The nodes are the eigenvalues of the Jacobi matrix of
    the discrete Chebyshev polynomials; the weights are the squared first components of its eigenvectors (Golub and
    Welsch 1969; Gautschi 2004, section 1.5). If `nodes` equals `steps`, the nodes are the steps themselves.
    """
    if nodes > steps:
        raise InputError(f"nodes must be at most steps ({steps}), not {nodes}")
    if nodes == steps:
        return np.arange(1.0, steps + 1), np.full(steps, 1 / steps)
    n = np.arange(1, nodes)
    off_diagonal = np.sqrt(n**2 * (steps**2 - n**2) / (4 * (4 * n**2 - 1)))
    jacobi = np.diag(np.full(nodes, (steps + 1) / 2)) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    i, vectors = np.linalg.eigh(jacobi)
    return i, vectors[0] ** 2
