"""Names that the doctests of the package use."""

import pytest
import torch

import iscam


@pytest.fixture(autouse=True)
def _names_of_doctests(doctest_namespace):
    doctest_namespace.update(iscam=iscam, torch=torch)
