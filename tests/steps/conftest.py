"""What the tests of the steps share: the small world, a context that remembers what it was told,
and a zoo to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fmn.params import Params, read_params
from fmn.steps.context import Context
from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.plan import ZooPlan, plan_zoo
from fmn.steps.zoo.run import Tally, run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Store, open_store
from tests.once import Once
from tests.steps.world import LABELS, World


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
def context() -> Context:
    return Context(device="cpu", report=Notes())


@dataclass
class Lab:
    """A zoo that a test may change: a copy of the small world, what params.yaml says, and a store.

    Attributes:
        folder: of all of it.
        described: the params, by section.
        warnings: of the store and the steps.
    """

    folder: Path
    described: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def world(self) -> World:
        return World(self.folder / "world")

    @property
    def store(self) -> Store:
        """The store as a machine opens it that never saw it before."""
        number = len(list(self.folder.glob("cache*")))
        return open_store(
            self.folder / "store", cache=self.folder / f"cache{number}", warn=self.warnings.append
        )

    def say(self, section: str, **settings: Any) -> None:
        """Change a section of the params."""
        self.described[section] = {**self.described.get(section, {}), **settings}

    def entry(self, name: str) -> dict[str, Any]:
        """Return what the params say of a model; it may be changed."""
        return next(
            entry
            for entry in self.described["models"]
            if name in (entry.get("name"), entry["task"])
        )

    @property
    def params(self) -> Params:
        return read_params(self.world.params(self.folder / "params.yaml", **self.described))

    def open(self, *, strict: bool = True) -> Graph:
        return Graph(open_zoo(self.params, self.context().memo, strict=strict))

    def context(self, device: str = "cpu") -> Context:
        """Return the context of a new process."""
        return Context(device=device, report=Notes(self.warnings))

    def plan(self, *, strict: bool = True) -> ZooPlan:
        return plan_zoo(self.open(strict=strict), self.store)

    def run(self, device: str = "cpu") -> Tally:
        return run_zoo(self.open(), self.store, self.context(device))

    def computed(self, device: str = "cpu") -> dict[str, int]:
        """Run, and return how many steps of each kind were computed; kinds of which none was are
        left out."""
        return dict(self.run(device).computed)

    def edit(self, file: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file."""
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


METHODS = ["average", "mask-fisher"]


def reference(kind: str, *words: str) -> Reference:
    """Return a reference: names of models, and behind them a variant unless it is an individual."""
    if kind == "individual":
        return Reference(kind, words)
    return Reference(kind, words[:-1], words[-1])


def make_lab(folder: Path, world: World, **sections: Any) -> Lab:
    """Copy the world, and describe it."""
    shutil.copytree(world.root, folder / "world")
    return lab_of(folder, **sections)


def lab_of(folder: Path, **sections: Any) -> Lab:
    """Describe the world that is in a folder."""
    entries = [{"model": str(folder / "world" / task), "task": task} for task in LABELS]
    return Lab(folder, {"models": entries, "merge": {"methods": METHODS}, **sections})


@pytest.fixture
def lab(world: World, tmp_path: Path) -> Lab:
    """A zoo that was never run."""
    return make_lab(tmp_path, world)


@pytest.fixture(scope="session")
def finished(world: World, once: Once) -> Lab:
    """A zoo that was run; it is to stay as it is."""

    def run(folder: Path) -> None:
        computed = make_lab(folder, world).computed()
        assert computed == {"fisher": 3, "merge": 8, "evaluate": 11}

    return lab_of(once.directory("finished", run))


@pytest.fixture
def ran(finished: Lab, world: World, tmp_path: Path) -> Lab:
    """A zoo that was run, with its store, to be changed."""
    shutil.copytree(finished.folder / "store", tmp_path / "store")
    return make_lab(tmp_path, world)


def flip(file: Path, place: int = -4) -> None:
    """Change one bit of a file, by default of a low byte of its last float."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def object_of(store: Store, md5: str) -> Path:
    """Return where a directory's store has an object."""
    return Path(store.url) / "files" / "md5" / md5[:2] / md5[2:]
