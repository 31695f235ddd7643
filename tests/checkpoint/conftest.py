"""Weights to store, and Python processes to break."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmn.checkpoint import DTYPES, Array
from fmn.errors import FmnError

CONFIG = {"model_type": "bert", "hidden_size": 4, "num_attention_heads": 2}

Refused = Callable[..., str]


def random_tensors(seed: int = 0) -> dict[str, Array]:
    """A tensor of every dtype, with every bit pattern that the dtype has; a scalar, and two that
    are empty."""
    rng = np.random.default_rng(seed)

    def some(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        size = int(np.prod(shape))
        raw = rng.integers(
            0, 2 if dtype == np.bool_ else 256, size * dtype.itemsize, dtype=np.uint8
        )
        return raw.view(dtype).reshape(shape)

    tensors = {f"layer.{name}": some(dtype, (3, 5)) for name, dtype in DTYPES.items()}
    tensors |= {
        "scalar": some(DTYPES["F32"], ()),
        "empty": some(DTYPES["BF16"], (0, 7)),
        "none": some(DTYPES["I64"], (0,)),
    }
    return tensors


def assert_same(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    """Compare names, dtypes, shapes and bytes."""
    assert sorted(ours) == sorted(theirs)
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (tensor.dtype, tensor.shape), name
        assert ours[name].tobytes() == tensor.tobytes(), name


@pytest.fixture
def refused() -> Refused:
    """Call something that must fail with a given error, in one line; return the line."""

    def refused(error: type[FmnError], call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(error) as caught:
            call(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with a configuration and, as yet, no weights."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs with given options; skipped, and said so, where this user may not mount."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mount-{len(mounted)}"
        place.mkdir()
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place],
                capture_output=True,
                text=True,
            )
        except OSError as error:
            pytest.skip(f"NOT TESTED: no mount command ({error})")
        if done.returncode:
            pytest.skip(
                f"NOT TESTED: this user may not mount a tmpfs ({done.stderr.strip()}); run as root"
            )
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(
            ["umount", "--lazy", place], check=True
        )  # a leaked file must not keep the mount
