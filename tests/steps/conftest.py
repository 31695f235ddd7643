"""What the tests of the steps share: the small world, and a workbench that remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from fmn.steps.bench import Bench
from tests.steps.world import World, build_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.getbasetemp() / "world")


@dataclass
class Notes:
    """A reporter: what was warned of, and how far each bar came."""

    warnings: list[str] = field(default_factory=list)
    bars: dict[str, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(done: int) -> None:
            self.bars[what] = (self.bars[what][0] + done, total)

        self.bars[what] = (0, total)
        yield advance

    def warn(self, line: str) -> None:
        self.warnings.append(line)


@pytest.fixture
def bench() -> Bench:
    return Bench(device="cpu", report=Notes())
