"""Bounds on published numbers, and the possible readings of equation 7."""

from __future__ import annotations

import pandas as pd

from iscam.validation import check_int

#: Number of images over which the saved run of the notebook sums the drop (rows 400 to 499 of the authors' list).
SLICE = 100

#: One image of the notebook's saved output, with probabilities in percent: the top class of the full image with its Y,
#: and the top class of the masked image with its Y and O.
#: Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, output of cell 14.
SAVED_EXAMPLE = {"full class": 773, "full Y": 61.65, "masked class": 899, "masked Y": 11.24, "masked O": 39.72}


def bound(table: pd.DataFrame) -> pd.DataFrame:
    r"""Apply the bound drop + increase ≤ 100 % to published cells, with one row per network and method.

    If the drop D and the increase I, in percent, are means over the same images and O ≥ 0, then D + I ≤ 100. A pair
    that exceeds the bound satisfies it only if D is divided by at least D / (100 - I).

    `table` is `published_table("table2")`. Returns a frame with the columns model, method, drop, increase, sum, excess
    (the part of the sum above 100) and factor (the smallest divisor of the drop, which is 1 if the bound holds).
    """
    cells = table.pivot(index=["model", "method"], columns="metric", values="value")
    cells = cells.loc[list(dict.fromkeys(zip(table["model"], table["method"], strict=True)))].reset_index()
    drop, increase = cells["average_drop"], cells["average_increase"]
    return pd.DataFrame(
        {
            "model": cells["model"],
            "method": cells["method"],
            "drop": drop,
            "increase": increase,
            "sum": drop + increase,
            "excess": (drop + increase - 100).clip(lower=0),
            "factor": (drop / (100 - increase)).clip(lower=1),
        }
    )


def readings(steps: int) -> dict[str, list[float]]:
    r"""Return the factors t_i of the scored inputs t_i X ∘ H_k, i = 1..N, for each reading of equations 6 and 7.

    Equation 7 is M_{i+1} = M_i + (X ∘ H_k) i/N with M_0 = 0.

    - "cumulative", i(i+1)/2N: the reading of the authors' notebook (with `steps` = 10) and of `is_cam`.
    - "strict", i(i-1)/2N: the sum starts at i = 0, as the equation is printed. The first input is empty.
    - "linear", i/N: the factors are not accumulated.
    - "last": only the final input is scored.

    Raises InputError if `steps` is not a positive integer.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb (cumulative);
    r0cketr1kky/ISS-CAM_resources@0d2da72:algo.py (linear) and @e3e844b:algo.py (last); frgfm/torch-cam issue 154
    (strict).

    >>> readings(2)
    {'cumulative': [0.5, 1.5], 'strict': [0.0, 0.5], 'linear': [0.5, 1.0], 'last': [1.5]}
    """
    i = range(1, check_int("steps", steps) + 1)
    cumulative = [j * (j + 1) / (2 * steps) for j in i]
    strict = [j * (j - 1) / (2 * steps) for j in i]
    return {"cumulative": cumulative, "strict": strict, "linear": [j / steps for j in i], "last": cumulative[-1:]}
