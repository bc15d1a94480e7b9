"""Names that the package's doctests use without importing them."""

import pytest
import torch

import iscam


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace.update(iscam=iscam, torch=torch)
