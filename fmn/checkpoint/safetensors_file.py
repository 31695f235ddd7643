"""One safetensors file: mapped into memory to read, laid out first and then filled to write."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from fmn.errors import CheckpointError, TextError
from fmn.reading import read_json

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# not those of 8 bits: they are a code, with a scale elsewhere
FLOATS = frozenset(DTYPES[name] for name in ("F64", "F32", "F16", "BF16"))


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Map a safetensors file: its tensors as read-only views on the file, and its metadata.

    Only the header is read.

    Raises:
        CheckpointError: no such file, or not a complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"no file {path}; expected a safetensors file there")
    try:
        with safe_open(path, framework="numpy"):  # checks the header against the file's length
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}); copy or download it again"
        ) from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header: dict[str, Any] = read_json(file.read(size), f"the header of {path}")
        except TextError as error:
            raise CheckpointError(f"{error}; copy or download it again") from error
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # some writers say null for none
    metadata: dict[str, str] = header.pop("__metadata__", None) or {}
    tensors = {}
    for name in sorted(header):
        dtype, shape, (start, _) = (
            header[name]["dtype"],
            header[name]["shape"],
            header[name]["data_offsets"],
        )
        if dtype not in DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name} has dtype {dtype}; known are {', '.join(DTYPES)}"
            )
        flat = np.frombuffer(mapped, DTYPES[dtype], count=math.prod(shape), offset=8 + size + start)
        tensors[name] = flat.reshape(shape)
    return tensors, metadata


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be, before it exists."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


class SafetensorsWriter:
    """A safetensors file whose tensors arrive in any order, in pieces, from several threads."""

    def __init__(
        self, path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Create the file and write its header.

        The tensors lie in the order of ``specs``, those with the widest elements first: so each
        starts at a multiple of its element's size, as readers that map the file need it.
        """
        header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
        self._span: dict[str, tuple[int, int]] = {}
        end = 0
        for name, spec in sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize):
            self._span[name] = start, end = end, end + spec.nbytes
            header[name] = {
                "dtype": DTYPE_NAMES[spec.dtype],
                "shape": list(spec.shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the format asks for data that starts at a multiple of 8
        self._body = 8 + len(text)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._write_all(len(text).to_bytes(8, "little") + text, 0)
            os.ftruncate(self._file, self._body + end)
        except BaseException:
            # an open file keeps its room on a full disk, even after it was removed
            os.close(self._file)
            raise

    def write(self, name: str, piece: Array, offset: int = 0) -> None:
        """Write a piece of a tensor, ``offset`` elements (of the piece's dtype) from its start.

        Raises:
            ValueError: the piece would reach into another tensor.
        """
        start, end = self._span[name]
        position = start + offset * piece.itemsize
        if offset < 0 or position + piece.nbytes > end:
            raise ValueError(
                f"{piece.nbytes} bytes at {position - start} reach beyond {name}, which has "
                f"{end - start} bytes"
            )
        self._write_all(piece.reshape(-1).view(np.uint8).data, self._body + position)

    def __enter__(self) -> SafetensorsWriter:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        os.close(self._file)

    def _write_all(self, data: bytes | memoryview, position: int) -> None:
        view = memoryview(data)
        while view.nbytes:  # a full disk or a signal can cut a write short
            written = os.pwrite(self._file, view, position)
            view, position = view[written:], position + written


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    """Write whole tensors to a new safetensors file, in alphabetical order."""
    names = sorted(tensors)
    specs = {name: TensorSpec(tensors[name].dtype, tensors[name].shape) for name in names}
    with SafetensorsWriter(path, specs, metadata) as writer:
        for name in names:
            writer.write(name, np.ascontiguousarray(tensors[name]))
