"""Every family, described and with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fmn import architectures
from tests import extra_families
from tests.families import FAMILIES

SHIPPED = tuple(name for name in FAMILIES if name not in extra_families.EXTRA)
ALL = (*SHIPPED, *extra_families.EXTRA)


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the families known that fmn does not ship, for one test."""
    architectures.known()  # entry points are read once, and are to stay
    monkeypatch.setattr(architectures._REGISTRY, "_items", dict(architectures._REGISTRY._items))
    before = dict(FAMILIES)
    extra_families.register()
    yield
    FAMILIES.clear()
    FAMILIES.update(before)
