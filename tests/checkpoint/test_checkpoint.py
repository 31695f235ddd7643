"""One model in every storage; weights that are unsafe, damaged or incomplete."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fmn.checkpoint import (
    Array,
    Checkpoint,
    as_array,
    as_tensor,
    open_checkpoint,
    weights_digest,
    write,
)
from fmn.errors import CheckpointError
from tests.checkpoint.conftest import CONFIG, Refused, assert_same, python, random_tensors

TENSORS = random_tensors()
STORAGES = ["safetensors", "sharded safetensors", "zip", "legacy", "sharded zip"]


def store(path: Path, storage: str, tensors: dict[str, Array] = TENSORS) -> None:
    """Write the weights as transformers or the hub would."""
    halves = [dict(sorted(tensors.items())[half::2]) for half in (1, 0)]
    stem = "model.safetensors" if "safetensors" in storage else "pytorch_model.bin"
    names = [stem.replace(".", f"-0000{number}-of-00002.", 1) for number in (1, 2)]
    parts = dict(zip(names, halves, strict=True)) if "sharded" in storage else {stem: tensors}
    for file, part in parts.items():
        if "safetensors" in storage:
            safetensors.torch.save_file(
                {name: as_tensor(tensor) for name, tensor in part.items()}, path / file
            )
        else:
            state = {name: as_tensor(tensor) for name, tensor in part.items()}
            torch.save(state, path / file, _use_new_zipfile_serialization=storage != "legacy")
    if "sharded" in storage:
        write_index(path, {name: file for file, part in parts.items() for name in part}, stem)


def write_index(path: Path, weight_map: object, stem: str = "model.safetensors") -> Path:
    index = path / f"{stem}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def opened(path: Path) -> dict[str, Array]:
    return dict(open_checkpoint(path).tensors)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage_holds_the_same(model: Path, storage: str) -> None:
    # the format of 2018 has no name for these dtypes, and torch cannot read what it wrote of them
    new = ("F8", "U16", "U32", "U64") if storage == "legacy" else ("nothing",)
    tensors = {
        name: tensor
        for name, tensor in TENSORS.items()
        if not name.removeprefix("layer.").startswith(new)
    }
    store(model, storage, tensors)
    checkpoint = open_checkpoint(model)
    assert_same(dict(checkpoint.tensors), tensors)
    assert list(checkpoint.tensors) == sorted(tensors)
    assert not any(tensor.flags.writeable for tensor in checkpoint.tensors.values())
    assert checkpoint.digest() == weights_digest(tensors)
    assert (checkpoint.name, checkpoint.path, checkpoint.config, checkpoint.model_type) == (
        str(model),
        model,
        CONFIG,
        "bert",
    )


def test_what_transformers_prefers_is_read(model: Path) -> None:
    """Where several storages lie side by side, merging other weights than transformers loads would
    be a silent error."""
    for storage in reversed(STORAGES[:3]):
        store(
            model, storage, {"a": np.full(2, STORAGES.index(storage), np.float32), "b": np.ones(1)}
        )
        assert opened(model)["a"][0] == STORAGES.index(storage)


def other(name: str) -> Array:
    changed = TENSORS[name].copy()
    changed.reshape(-1).view(np.uint8)[-1] ^= 1
    return changed


@pytest.mark.parametrize(
    "changed",
    [
        *({name: other(name)} for name in TENSORS if TENSORS[name].size),
        {"layer.F32": TENSORS["layer.F32"].reshape(5, 3)},
        {"layer.F32": TENSORS["layer.F32"].view(np.int32)},
        {"scalar": TENSORS["scalar"].reshape(1)},
        {"empty": TENSORS["empty"].reshape(7, 0)},
        {"one more": np.zeros(0, np.int8)},
        {
            "layer.F32": TENSORS["layer.I32"].view(np.float32),
            "layer.I32": TENSORS["layer.F32"].view(np.int32),
        },
    ],
    ids=lambda changed: "+".join(changed),
)
def test_any_change_of_the_weights_changes_the_digest(changed: dict[str, Array]) -> None:
    assert weights_digest(TENSORS | changed) != weights_digest(TENSORS)


def test_a_name_enters_the_digest() -> None:
    renamed = {name.replace("F32", "F3"): tensor for name, tensor in TENSORS.items()}
    assert weights_digest(renamed) != weights_digest(TENSORS)


def test_metadata_order_and_layout_do_not_enter_the_digest(tmp_path: Path, model: Path) -> None:
    expected = weights_digest(TENSORS)
    assert weights_digest(dict(reversed(TENSORS.items()))) == expected
    assert (
        weights_digest({name: tensor.copy(order="F") for name, tensor in TENSORS.items()})
        == expected
    )
    write(model / "model.safetensors", TENSORS, {"made": "otherwise"})
    assert open_checkpoint(model).digest() == expected
    (model / "config.json").write_text('{"model_type": "roberta"}')
    assert open_checkpoint(model).digest() == expected


@pytest.mark.parametrize("storage", STORAGES)
def test_old_names_of_layer_norm(model: Path, storage: str) -> None:
    old = {
        "LayerNorm.gamma": 1.0,
        "x.LayerNorm.beta": 2.0,
        "x.gamma": 3.0,
        "gamma.LayerNorm.weight": 4.0,
    }
    store(model, storage, {name: np.full(2, value, np.float32) for name, value in old.items()})
    new = {
        "LayerNorm.weight": 1.0,
        "x.LayerNorm.bias": 2.0,
        "x.gamma": 3.0,
        "gamma.LayerNorm.weight": 4.0,
    }
    assert {name: tensor[0] for name, tensor in opened(model).items()} == new


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("sharded", [True, False])
def test_pickled_code_is_refused_and_does_not_run(
    model: Path, refused: Refused, new_format: bool, sharded: bool
) -> None:
    trace = model / "the-code-ran"
    file = model / ("evil.bin" if sharded else "pytorch_model.bin")
    state = {"a": torch.zeros(2), "b": Evil(trace)}
    torch.save(state, file, _use_new_zipfile_serialization=new_format)
    if sharded:
        write_index(model, {"a": file.name}, "pytorch_model.bin")
    line = refused(CheckpointError, open_checkpoint, model)
    assert line.startswith(f"{file} was refused: it is damaged or holds code")
    assert not trace.exists()
    torch.load(file, weights_only=False)  # the bait was live
    assert trace.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("new_format", [True, False])
def test_damaged_pickles_fail_in_one_line_that_names_them(
    model: Path, refused: Refused, new_format: bool
) -> None:
    file = model / "pytorch_model.bin"
    torch.save(
        {f"layer.{n}": torch.randn(3) for n in range(3)},
        file,
        _use_new_zipfile_serialization=new_format,
    )
    whole, rng = file.read_bytes(), random.Random(0)
    for length in range(0, len(whole) - 1, 29):
        file.write_bytes(whole[:length])
        assert str(file) in refused(CheckpointError, open_checkpoint, model)
    for _ in range(
        150
    ):  # a flipped bit may also go unseen: in a value, or in a byte that nobody reads
        flipped = bytearray(whole)
        flipped[rng.randrange(min(len(whole), 900))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            open_checkpoint(model)
        except CheckpointError as error:
            assert str(file) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "holds no state dict"),
        ({"model": {"a": torch.zeros(2)}}, "holds no state dict"),
        ({"a": torch.zeros(2), 1: torch.zeros(2)}, "holds no state dict"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a tensor of torch.complex64"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "torch.sparse_coo"),
    ],
)
def test_pickles_that_hold_no_plain_weights(
    model: Path, refused: Refused, content: object, message: str
) -> None:
    file = model / "pytorch_model.bin"
    torch.save(content, file)
    line = refused(CheckpointError, open_checkpoint, model)
    assert line.startswith(str(file)) and message in line


@pytest.mark.parametrize(
    "config", [None, "", "{", "[]", "null", "{}", '{"model_type": 3}', b"\xff\xfe\x00"]
)
def test_configurations_that_are_none(
    model: Path, refused: Refused, config: str | bytes | None
) -> None:
    store(model, "safetensors")
    file = model / "config.json"
    file.unlink()
    if config is not None:
        file.write_bytes(config if isinstance(config, bytes) else config.encode())
    line = refused(CheckpointError, open_checkpoint, model)
    assert str(model) in line
    assert "expected" in line or "copy or download it again" in line


def test_no_weights(model: Path, refused: Refused) -> None:
    (model / "tf_model.h5").touch()
    line = refused(CheckpointError, open_checkpoint, model)
    assert line.startswith(
        f"no weights in {model}; expected model.safetensors or pytorch_model.bin"
    )


@pytest.mark.parametrize("storage", ["sharded safetensors", "sharded zip"])
def test_a_shard_that_is_missing(model: Path, refused: Refused, storage: str) -> None:
    store(model, storage)
    shard = next(model.glob("*-00002-of-00002.*"))
    shard.unlink()
    assert refused(CheckpointError, open_checkpoint, model).startswith(f"no file {shard}")


def test_a_shard_that_lacks_a_tensor(model: Path, refused: Refused) -> None:
    write(model / "s.safetensors", {"a": np.ones(2)})
    index = write_index(model, {"a": "s.safetensors", "b": "s.safetensors"})
    line = refused(CheckpointError, open_checkpoint, model)
    assert line.startswith(
        f"{model / 's.safetensors'} lacks tensor b, which {index.name} says it holds"
    )


def test_a_tensor_is_read_from_the_shard_that_the_index_names(model: Path) -> None:
    write(model / "1.safetensors", {"a": np.full(1, 1.0), "b": np.full(1, 1.0)})
    write(model / "2.safetensors", {"a": np.full(1, 2.0), "b": np.full(1, 2.0)})
    write_index(model, {"a": "2.safetensors", "b": "1.safetensors"})
    assert {name: tensor[0] for name, tensor in opened(model).items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize("storage", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "name", ["../secret", "deep/secret", "{model}/../secret", "..", "", ".", "./secret"]
)
def test_shards_that_leave_the_directory_are_refused(
    model: Path, refused: Refused, name: str, storage: str
) -> None:
    for place in (model.parent / "secret", model / "secret", model / "deep" / "secret"):
        place.parent.mkdir(exist_ok=True)
        write(place, {"a": np.ones(2)}) if storage == "model.safetensors" else torch.save(
            {"a": torch.ones(2)}, place
        )
    index = write_index(model, {"a": name.format(model=model)}, storage)
    line = refused(CheckpointError, open_checkpoint, model)
    assert str(index.parent) in line
    write_index(model, {"a": "secret"}, storage)
    assert list(opened(model)) == ["a"]


def test_a_shard_may_be_a_link(model: Path) -> None:
    """The hub's cache and fmn's own merges keep the bytes elsewhere."""
    write(model.parent / "blob", {"a": np.ones(2)})
    (model / "shard").symlink_to("../blob")
    write_index(model, {"a": "shard"})
    assert list(opened(model)) == ["a"]


@pytest.mark.parametrize(
    "weight_map",
    [None, 3, ["a"], {"a": 1}, {"a": None}, {"a": ["x"]}, {"a": "x", "b": 1}, {"a": "\0"}],
)
def test_an_index_that_is_none(model: Path, refused: Refused, weight_map: object) -> None:
    index = write_index(model, weight_map)
    assert str(model) in refused(CheckpointError, open_checkpoint, model)
    index.write_text("{")
    assert refused(CheckpointError, open_checkpoint, model).startswith(f"{index} is not JSON")


def checkpoint(path: Path, **config: object) -> Checkpoint:
    (path / "config.json").write_text(json.dumps(config))
    return Checkpoint(str(path), path, config, {}, ())


def test_settings_fall_back_on_transformers_defaults(model: Path) -> None:
    bert = checkpoint(model, model_type="bert", hidden_size=4, torch_dtype=None)
    assert bert.setting("hidden_size") == 4
    assert bert.setting("torch_dtype") is None  # said to be null, not left out
    assert bert.setting("num_hidden_layers") == 12
    assert bert.setting("no_such_setting") is None
    assert (
        checkpoint(model, model_type="llama", num_attention_heads=8).setting("num_key_value_heads")
        == 8
    )
    assert checkpoint(model, model_type="gpt2", n_embd=32).setting("hidden_size") == 32


def test_settings_of_a_family_that_transformers_does_not_know(model: Path) -> None:
    assert checkpoint(model, model_type="my-own").setting("hidden_size") is None


def test_settings_that_transformers_refuses(model: Path, refused: Refused) -> None:
    broken = checkpoint(model, model_type="bert", id2label=3)
    line = refused(CheckpointError, broken.setting, "intermediate_size")
    assert line.startswith(f"{model / 'config.json'}: transformers refuses this configuration (")


def test_a_checkpoints_own_code_is_never_asked_for(model: Path) -> None:
    (model / "mine.py").write_text(
        f"import pathlib; pathlib.Path({str(model / 'trace')!r}).touch()\nclass Mine: ...\n"
    )
    mine = checkpoint(model, model_type="my-own", auto_map={"AutoConfig": "mine.Mine"})
    assert mine.setting("hidden_size") is None
    assert not (model / "trace").exists()


def test_tokenizer_files(model: Path) -> None:
    for name in (
        "vocab.txt",
        "tokenizer.json",
        "spiece.model",
        "merges.txt",
        "notes.txt",
        "model.safetensors",
    ):
        (model / name).touch()
    files = checkpoint(model, model_type="bert").tokenizer_files()
    assert files == [
        model / name for name in ("merges.txt", "spiece.model", "tokenizer.json", "vocab.txt")
    ]


def test_files_that_say_how_a_model_is_used(model: Path) -> None:
    for name in ("processor_config.json", "generation_config.json", "trainer_state.json"):
        (model / name).touch()
    files = checkpoint(model, model_type="bert").other_files()
    assert files == [model / name for name in ("generation_config.json", "processor_config.json")]


def test_settings_of_a_models_part_for_texts(model: Path) -> None:
    images = checkpoint(model, model_type="gemma3", text_config={"hidden_size": 24}, vocab_size=7)
    assert (images.setting("hidden_size"), images.setting("vocab_size")) == (24, 7)
    assert (
        images.setting("num_key_value_heads") == 4
    )  # transformers' default, of the part for texts
    assert images.setting("no_such") is None


@pytest.mark.parametrize("name", TENSORS)
def test_to_torch_and_back(name: str) -> None:
    tensor = as_tensor(TENSORS[name])
    assert str(tensor.dtype) == f"torch.{TENSORS[name].dtype.name}"
    assert_same({name: as_array(tensor)}, {name: TENSORS[name]})
    if tensor.numel():
        as_array(tensor).reshape(-1).view(np.uint8)[0] ^= 1  # a view, not a copy
        assert as_array(tensor).tobytes() != TENSORS[name].tobytes()
    assert_same(
        {
            name: as_array(
                as_tensor(TENSORS[name].T).mT if tensor.dim() > 1 else as_tensor(TENSORS[name])
            )
        },
        {name: TENSORS[name]},
    )


def test_opening_safetensors_imports_no_torch(model: Path) -> None:
    store(model, "sharded safetensors")
    code = (
        "import sys; from fmn.checkpoint import open_checkpoint; checkpoint = "
        "open_checkpoint(sys.argv[1]);checkpoint.digest(); print([name for name in ('torch', "
        "'transformers') if name in sys.modules])"
    )
    assert python(code, model).stdout.strip() == "[]"
