"""The schedules of IS-CAM: scale factors t and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.validation import check_int, check_non_negative, unknown_choice

SCHEDULES = ("cumulative", "linear", "integral")


def quadrature(steps: int, schedule: str | Sequence[float], nodes: int | None) -> tuple[Tensor, Tensor]:
    """Coefficients t and weights w (their sum is 1) of the scored inputs t X ∘ H."""
    steps = check_int("steps", steps)
    if isinstance(schedule, Tensor):
        schedule = schedule.tolist()
    if schedule not in SCHEDULES if isinstance(schedule, str) else not isinstance(schedule, Sequence | np.ndarray):
        raise unknown_choice("schedule", schedule, [*SCHEDULES, "or a sequence of numbers"])
    if not isinstance(schedule, str):
        if nodes is not None:
            raise InputError("nodes needs one of the schedules " + ", ".join(SCHEDULES) + ", not a sequence")
        t = np.asarray([check_non_negative("a number of the schedule", value) for value in schedule])
        if len(t) == 0:
            raise InputError("the schedule is empty; give at least one number")
        w = np.full(len(t), 1 / len(t))
    elif schedule == "integral":
        x, w = np.polynomial.legendre.leggauss(steps if nodes is None else check_int("nodes", nodes))
        t, w = (x + 1) / 2, w / 2
    else:
        i, w = discrete_gauss(steps, steps if nodes is None else check_int("nodes", nodes))
        t = i * (i + 1) / (2 * steps) if schedule == "cumulative" else i / steps
    return torch.from_numpy(t).float(), torch.from_numpy(w).float()


def discrete_gauss(steps: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights that give the mean over i = 1..steps of every polynomial of degree < 2 nodes exactly.

    They are the eigenvalues, and squared first components of the eigenvectors, of the Jacobi matrix of the discrete
    Chebyshev polynomials (Golub and Welsch 1969; Gautschi 2004, section 1.5). As many nodes as steps are the steps.
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
