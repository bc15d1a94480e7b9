"""Checks of error messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import iscam


@contextmanager
def refused(*words: str, error: type[Exception] = iscam.InputError) -> Iterator[None]:
    """Assert that the block raises `error` with one readable line that contains all the words."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 2000
    for word in words:
        assert word in message, message
