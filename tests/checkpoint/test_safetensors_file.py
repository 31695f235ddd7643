"""Our reader and writer against safetensors' own, and against files that are not what they
claim."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch

from fmn.checkpoint import DTYPES, SafetensorsWriter, TensorSpec, as_array, as_tensor, read, write
from fmn.errors import CheckpointError
from tests.checkpoint.conftest import Refused, assert_same, python, random_tensors


def header(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_what_we_write_safetensors_reads(tmp_path: Path) -> None:
    tensors = random_tensors()
    write(tmp_path / "m", tensors, {"kind": "tést", "format": "mine"})
    theirs = safetensors.torch.load_file(tmp_path / "m")
    assert_same({name: as_array(tensor) for name, tensor in theirs.items()}, tensors)
    with safetensors.safe_open(tmp_path / "m", framework="numpy") as file:
        assert file.metadata() == {"kind": "tést", "format": "mine"}


def test_what_safetensors_writes_we_read(tmp_path: Path) -> None:
    tensors = random_tensors()
    theirs = {name: as_tensor(tensor) for name, tensor in tensors.items()}
    safetensors.torch.save_file(theirs, tmp_path / "m", metadata={"a": "ü"})
    ours, metadata = read(tmp_path / "m")
    assert_same(ours, tensors)
    assert list(ours) == sorted(tensors)
    assert metadata == {"a": "ü"}


def test_a_file_without_tensors_or_metadata(tmp_path: Path) -> None:
    safetensors.torch.save_file({}, tmp_path / "theirs")
    assert read(tmp_path / "theirs") == ({}, {})
    write(tmp_path / "ours", {})
    assert read(tmp_path / "ours") == ({}, {"format": "pt"})


def test_every_tensor_is_aligned(tmp_path: Path) -> None:
    specs = {
        name: TensorSpec(tensor.dtype, tensor.shape) for name, tensor in random_tensors().items()
    }
    with SafetensorsWriter(tmp_path / "m", specs):
        pass
    entries = header(tmp_path / "m")
    body = 8 + int.from_bytes((tmp_path / "m").read_bytes()[:8], "little")
    assert body % 8 == 0
    for name, spec in specs.items():
        assert entries[name]["data_offsets"][0] % spec.dtype.itemsize == 0, name


def test_tensors_of_one_dtype_lie_in_the_order_given(tmp_path: Path) -> None:
    specs = {name: TensorSpec(DTYPES["F32"], (2,)) for name in ("z", "a", "m")}
    with SafetensorsWriter(tmp_path / "m", specs):
        pass
    assert list(header(tmp_path / "m")) == ["__metadata__", "z", "a", "m"]


def test_pieces_from_threads_in_any_order_make_the_same_file(tmp_path: Path) -> None:
    tensors = random_tensors()
    write(tmp_path / "whole", tensors)
    pieces = [
        (name, flat[start : start + 4], start)
        for name, flat in ((name, tensor.reshape(-1)) for name, tensor in tensors.items())
        for start in range(0, flat.size, 4)
    ]
    random.Random(0).shuffle(pieces)
    specs = {name: TensorSpec(tensors[name].dtype, tensors[name].shape) for name in sorted(tensors)}
    with SafetensorsWriter(tmp_path / "pieces", specs) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda piece: writer.write(*piece), pieces))
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


def test_strided_tensors_are_written_as_they_read(tmp_path: Path) -> None:
    tensor = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write(tmp_path / "m", {"a": tensor})
    assert np.array_equal(read(tmp_path / "m")[0]["a"], tensor)


@pytest.mark.parametrize(("size", "offset"), [(3, 0), (1, 2), (1, -1), (0, 3)])
def test_a_piece_that_reaches_into_another_tensor_is_refused(
    tmp_path: Path, size: int, offset: int
) -> None:
    specs = {name: TensorSpec(DTYPES["F32"], (2,)) for name in "abc"}
    with SafetensorsWriter(tmp_path / "m", specs) as writer:
        with pytest.raises(ValueError, match="reach beyond b, which has 8 bytes"):
            writer.write("b", np.ones(size, np.float32), offset)
        writer.write("b", np.ones(2, np.float32))
    tensors, _ = read(tmp_path / "m")
    assert [tensors[name].tolist() for name in "abc"] == [[0, 0], [1, 1], [0, 0]]


def test_a_writer_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("precious")
    with pytest.raises(FileExistsError):
        write(tmp_path / "m", {})
    assert (tmp_path / "m").read_text() == "precious"


def test_a_header_that_finds_no_room_leaves_no_file_open(mount) -> None:
    full = mount("size=64k") / "m"
    (full.parent / "ballast").write_bytes(bytes(64 * 1024))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="No space left"):
        write(full, {"a": np.zeros(1)})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_tensors_are_read_only(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a": np.ones(3)})
    with pytest.raises(ValueError, match="read-only"):
        read(tmp_path / "m")[0]["a"][0] = 2


def raw(text: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


F32 = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        raw(b"not json at all"),
        raw(F32, length=10**15),
        raw(F32, body=bytes(7)),
        raw(F32, body=bytes(9)),
        raw(F32.replace(b"[0,8]", b"[8,16]"), body=bytes(16)),
        raw(F32.replace(b"[2]", b"[3]"), body=bytes(8)),
        raw(F32.replace(b"[2]", b"[-2]"), body=bytes(8)),
        raw(F32.replace(b"F32", b"F33"), body=bytes(8)),
        raw(b'{"__metadata__":{"a":1}}'),
        b"\x80\x04\x95" * 100,
    ],
)
def test_what_is_no_safetensors_file_is_refused_in_a_line_that_names_it(
    tmp_path: Path, refused: Refused, content: bytes
) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(content)
    assert str(file) in refused(CheckpointError, read, file)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, refused: Refused) -> None:
    write(tmp_path / "whole", random_tensors())
    whole = (tmp_path / "whole").read_bytes()
    for length in range(0, len(whole), 101):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert "cut is not a complete safetensors file" in refused(
            CheckpointError, read, tmp_path / "cut"
        )


def test_a_dtype_that_numpy_has_not(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "m").write_bytes(
        raw(F32.replace(b"F32", b"C64").replace(b"[2]", b"[1]"), body=bytes(8))
    )
    line = refused(CheckpointError, read, tmp_path / "m")
    assert "tensor a has dtype C64; known are F64, F32" in line


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_no_file_there(tmp_path: Path, refused: Refused, make) -> None:
    make(tmp_path / "m")
    assert refused(CheckpointError, read, tmp_path / "m").startswith(f"no file {tmp_path / 'm'}")


MEASURE = """
import sys
from pathlib import Path
from fmn.checkpoint import read
def kilobytes(*fields):
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(fields))
read(Path(sys.argv[2]))
before = kilobytes("Anonymous", "Private_Dirty"), kilobytes("Rss")
tensors, _ = read(Path(sys.argv[1]))
opened = kilobytes("Rss") - before[1]
total = float(tensors["a"].sum())
print(tensors["a"].nbytes, opened, kilobytes("Anonymous", "Private_Dirty") - before[0], total)
"""


def test_reading_maps_and_does_not_copy(tmp_path: Path) -> None:
    write(tmp_path / "small", {"a": np.ones(3, np.float32)})
    with SafetensorsWriter(tmp_path / "big", {"a": TensorSpec(DTYPES["F32"], (50_000_000,))}):
        pass
    assert (tmp_path / "big").stat().st_blocks < 100  # sparse: 200 MB that take no room
    nbytes, opened, private, total = map(
        float, python(MEASURE, tmp_path / "big", tmp_path / "small").stdout.split()
    )
    assert (nbytes, total) == (200e6, 0)
    assert opened < 2_000  # kB: nothing is read when the file is opened
    assert private < 2_000  # and what is used stays in the system's cache of the file
