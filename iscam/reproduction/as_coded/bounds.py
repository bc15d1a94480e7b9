"""What published numbers imply: the bound on drop and increase, and readings of equation 7."""

from __future__ import annotations

import pandas as pd

from iscam.validation import check_int

#: Images over which the notebook's visible run sums the drop (rows 400 to 499 of the authors' list).
SLICE = 100


#: An image of the notebook's saved output, its probabilities in percent: the whole image's top class and Y, the
#: masked image's top class, and that class's Y and O.
#: Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, output of cell 14.
SAVED_EXAMPLE = {"whole class": 773, "whole Y": 61.65, "masked class": 899, "masked Y": 11.24, "masked O": 39.72}


def bound(table: pd.DataFrame) -> pd.DataFrame:
    r"""What drop + increase ≤ 100 % says of published cells, one row a network and method.

    If both average over the same images and O ≥ 0, a published drop D and increase I in percent obey D + I ≤ 100. A
    cell that breaks this needs D divided by at least D / (100 - I).

    `table` as `published_table("table2")`. Returns model, method, drop, increase, sum, `excess` over 100 (0 if none),
    and `factor`, the smallest that would do (1 where the bound holds).
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
    r"""The coefficients t_i of X ∘ H_k in the scored inputs, i = 1..N, for each reading of equations 6 and 7.

    Equation 7 is M_{i+1} = M_i + (X ∘ H_k) i/N with M_0 = 0. "cumulative", i(i+1)/2N, is what the authors' notebook
    runs (`steps` = 10) and what `is_cam` does; "strict", i(i-1)/2N, starts the sum at i = 0, as the equation is
    printed, so that its first input is empty; "linear", i/N, does not accumulate; "last" scores the final input alone.

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
