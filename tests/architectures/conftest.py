"""A family that somebody registers for one test."""

from __future__ import annotations

import pytest

from fmn import architectures


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered is forgotten after the test."""
    architectures.known()  # entry points are read once, and are to stay
    monkeypatch.setattr(architectures._REGISTRY, "_items", dict(architectures._REGISTRY._items))
