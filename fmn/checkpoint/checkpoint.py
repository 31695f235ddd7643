"""A transformers checkpoint, opened without reading its weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmn.checkpoint import safetensors_file
from fmn.checkpoint.safetensors_file import DTYPE_NAMES, DTYPES, Array, Tensors
from fmn.checkpoint.source import local_directory
from fmn.errors import CheckpointError, TextError, reason_of
from fmn.keys import digest
from fmn.reading import JSON_BYTES, file_bytes, read_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
# of what a model is beside weights, configuration and tokenizer: how it generates, and how it is
# shown images
OTHER_FILES = ("generation_config.json", "preprocessor_config.json", "processor_config.json")
# TensorFlow's names for the scale and shift of layer norms, still met in BERT checkpoints of 2018
OLD_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Checkpoint:
    """A model's configuration and its tensors, mapped into memory and read when they are used.

    Attributes:
        name: as the user wrote it: a path or a hub id.
        path: the directory.
        config: config.json as it stands.
        tensors: name to read-only array, in alphabetical order of names.
        weight_files: where the tensors are.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    tensors: Tensors
    weight_files: tuple[Path, ...]

    @property
    def model_type(self) -> str:
        """The family, ``config.model_type``."""
        return str(self.config["model_type"])

    def digest(self) -> str:
        """Digest of the weights' names, dtypes, shapes and values, in whatever files they are."""
        return weights_digest(self.tensors)

    def tokenizer_files(self) -> list[Path]:
        """Return the tokenizer's files, in alphabetical order."""
        return sorted({file for pattern in TOKENIZER_FILES for file in self.path.glob(pattern)})

    def other_files(self) -> list[Path]:
        """Return the files that say how the model generates and is shown images, if it has them."""
        return [self.path / name for name in OTHER_FILES if (self.path / name).is_file()]

    def setting(self, name: str) -> Any:
        """Return a value of the configuration, or of the part for texts that some families have.

        One that config.json leaves out has transformers' default; None means that the family has
        no such value.

        Raises:
            CheckpointError: transformers refuses the configuration.
        """
        for part in (self.config, self.config.get("text_config")):
            if isinstance(part, dict) and name in part:
                return part[name]
        return setting_of(self.configuration(), name)

    def configuration(self) -> Any:
        """Return the configuration as transformers has it; None of a family that it does not know.

        Raises:
            CheckpointError: transformers refuses it.
        """
        # not AutoConfig, which would ask whether to run a checkpoint's own code
        from transformers import CONFIG_MAPPING

        if self.model_type not in CONFIG_MAPPING:
            return None
        try:
            return CONFIG_MAPPING[self.model_type].from_dict(deepcopy(dict(self.config)))
        except Exception as error:  # each family validates in its own way
            raise CheckpointError(
                f"{self.path / 'config.json'}: transformers refuses this configuration "
                f"({reason_of(error)})"
            ) from error


def open_checkpoint(model: str | Path, revision: str | None = None) -> Checkpoint:
    """Open a directory or hub id: config.json is read, the weights are only mapped.

    Raises:
        CheckpointError: not there, no configuration, no weights, truncated or unsafe weights.
    """
    path = local_directory(model, revision)
    config = _read_config(path)
    tensors, files = _read_tensors(path)
    _check_layers(path, config, len(tensors))
    return Checkpoint(str(model), path, config, dict(sorted(tensors.items())), tuple(files))


def setting_of(config: Any, name: str) -> Any:
    """Return a value of a transformers configuration, else of its part for texts, else None."""
    return getattr(config, name, getattr(getattr(config, "text_config", None), name, None))


def weights_digest(tensors: Tensors) -> str:
    """Sha256 over names, dtypes, shapes and bytes, in alphabetical order; computed in threads."""

    def row(name: str) -> list[Any]:
        tensor = tensors[name]
        flat = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        return [
            name,
            DTYPE_NAMES[tensor.dtype],
            list(tensor.shape),
            hashlib.sha256(flat.data).hexdigest(),
        ]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        largest_first = sorted(tensors, key=lambda name: -tensors[name].nbytes)
        return digest("weights", sorted(pool.map(row, largest_first)))


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"no config.json in {path}; expected a transformers directory (config.json and weights)"
        )
    # some configurations have an Infinity, such as one of time steps
    config = _read_json(file, finite=False)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{file} names no model_type; expected a configuration that transformers wrote"
        )
    names = config.get("architectures")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise CheckpointError(
            f"{file}: expected architectures as a list of names of classes, got {names!r}"
        )
    for name, choice in _settings(config, CODE).items():
        if "/" in str(choice):
            raise CheckpointError(
                f"{file}: {name} is {choice!r}, code of the hub, which fmn does not run; remove "
                "that setting"
            )
    for name, size in _settings(config, SIZES).items():
        most = MOST_LABELS if name == "num_labels" else MOST
        # some families have one a layer
        each = size if isinstance(size, list) and size else [size]
        if not all(_is_size(value) and value <= most for value in each):
            raise CheckpointError(
                f"{file}: expected {name} as a number from 1 to {most:,}, got {size!r}; copy or "
                "download it again"
            )
    return config


CODE = frozenset({"attn_implementation", "_attn_implementation"})
"""Settings that transformers takes the name of a repository with kernels in."""

LAYERS = frozenset(
    {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"}
)
"""Settings of families that say how deep a model is."""

SIZES = LAYERS | frozenset(
    {"hidden_size", "d_model", "n_embd", "dim", "intermediate_size", "d_ff", "hidden_dim"}
    | {"num_attention_heads", "num_heads", "n_head", "n_heads", "num_key_value_heads"}
    | {"encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim"}
    | {"vocab_size", "num_labels"}
)
"""Settings of families that say how large a model is; nothing that has none of something works."""

MOST = 10**7
"""The largest size; vocabularies have some hundred thousand."""

MOST_LABELS = 10**5
"""The same of labels, for each of which transformers makes a name."""

SHARING = 100
"""So many layers may share their weights; others have a tensor each at least."""


def _settings(config: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return some settings, or those of the part for texts, that are there and not null."""
    inner = config.get("text_config")
    settings = {**(inner if isinstance(inner, dict) else {}), **config}
    return {name: settings[name] for name in sorted(names) if settings.get(name) is not None}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_layers(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse more layers than there can be weights for; making them would take minutes."""
    for name, size in _settings(config, LAYERS).items():
        if isinstance(size, int) and size > max(tensors, SHARING):
            raise CheckpointError(
                f"{path / 'config.json'}: {name} is {size:,}, the weights are {tensors:,} tensors; "
                "is it of this model?"
            )


def _read_json(file: Path, *, finite: bool = True) -> Any:
    try:
        return read_json(file_bytes(file, JSON_BYTES), str(file), finite=finite)
    except TextError as error:
        raise CheckpointError(f"{error}; copy or download it again") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error


def _read_tensors(path: Path) -> tuple[dict[str, Array], list[Path]]:
    for stem, read in (
        ("model.safetensors", _read_safetensors),
        ("pytorch_model.bin", _read_pickle),
    ):
        file, index = path / stem, path / f"{stem}.index.json"
        if file.is_file():  # before the index: where both are there, transformers loads this one
            return _modern_names(read(file)), [file]
        if index.is_file():
            tensors, shards = _read_shards(index, read)
            return _modern_names(tensors), [index, *shards]
    raise CheckpointError(
        f"no weights in {path}; expected model.safetensors or pytorch_model.bin, or shards with "
        "their index"
    )


def _read_shards(
    index: Path, read: Callable[[Path], dict[str, Array]]
) -> tuple[dict[str, Array], list[Path]]:
    try:
        shard_of = dict(_read_json(index)["weight_map"].items())
        shard_names = sorted(set(shard_of.values()))
        strays = [name for name in shard_names if Path(name).name != name or name == ".."]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{index} is not an index of shards ({error!r}); copy or download it again"
        ) from error
    if strays:
        raise CheckpointError(
            f"{index} names {strays[0]!r} as a shard; expected the name of a file that lies beside "
            "the index"
        )
    shards = {name: read(index.parent / name) for name in shard_names}
    missing = [name for name, shard in shard_of.items() if name not in shards[shard]]
    if missing:
        raise CheckpointError(
            f"{index.parent / shard_of[missing[0]]} lacks tensor {missing[0]}, which {index.name} "
            "says it holds; copy or download the shards again"
        )
    return {name: shards[shard][name] for name, shard in shard_of.items()}, [
        index.parent / name for name in shard_names
    ]


def _read_safetensors(file: Path) -> dict[str, Array]:
    return safetensors_file.read(file)[0]


def _read_pickle(file: Path) -> dict[str, Array]:
    """Read pickled weights with torch's weights-only loader, which runs no code; map zip files."""
    import pickle
    import zipfile

    import torch

    if not file.is_file():
        raise CheckpointError(f"no file {file}; the index names it as a shard")
    try:
        loaded = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} was refused: it is damaged or holds code, not only weights; convert it to "
            "safetensors where you trust it"
        ) from error
    # on damaged bytes torch fails in any way: RuntimeError, IndexError, AssertionError,
    # struct.error…
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{file} is damaged ({reason}); copy or download it again") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(n, str) and isinstance(t, torch.Tensor) for n, t in loaded.items()
    ):
        raise CheckpointError(
            f"{file} holds no state dict (name to tensor); save it with save_pretrained"
        )
    try:
        arrays = {name: as_array(tensor) for name, tensor in loaded.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def as_array(tensor: Any) -> Array:
    """View a torch tensor as a numpy array; without a copy where it is contiguous and on the CPU.

    Raises:
        CheckpointError: a dtype or layout that safetensors files do not hold.
    """
    import torch

    dtype = next(
        (dtype for dtype in DTYPE_NAMES if f"torch.{dtype.name}" == str(tensor.dtype)), None
    )
    if dtype is None or tensor.layout != torch.strided:
        raise CheckpointError(
            f"a tensor of {tensor.dtype} and {tensor.layout}; expected a dense one of "
            f"{', '.join(DTYPES)}"
        )
    # through bytes, as numpy has no bfloat16 or float8 of its own that torch would know
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat.view(dtype).reshape(tensor.shape)  # type: ignore[no-any-return]


def as_tensor(array: Array) -> Any:
    """Copy a numpy array into a torch tensor on the CPU."""
    import torch

    tensor = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name))
    as_array(tensor)[...] = array  # the two share their memory
    return tensor


def _modern_names(tensors: Mapping[str, Array]) -> dict[str, Array]:
    renamed = {}
    for name, tensor in tensors.items():
        old = next((suffix for suffix in OLD_SUFFIXES if name.endswith(suffix)), None)
        renamed[name.removesuffix(old) + OLD_SUFFIXES[old] if old else name] = tensor
    return renamed
