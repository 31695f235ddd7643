"""A Fisher's file as tables: heads and neurons, parameter groups, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmn import architectures, checkpoint
from fmn.architectures import Layer
from fmn.errors import FisherError

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]
Part = Literal["attention", "feed_forward"]

MASK, DIAGONAL = "mask-fisher", "diagonal-fisher"
NAMES = {MASK: "mask Fisher", DIAGONAL: "diagonal Fisher"}


@dataclass(frozen=True)
class Nodes:
    """A mask Fisher's values.

    Attributes:
        attention: [layers, heads], float64.
        feed_forward: [layers, neurons], float64.
    """

    attention: Array
    feed_forward: Array


def read_fisher(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a file that ``fmn fisher`` wrote: its arrays, and what it says of itself.

    Raises:
        CheckpointError: no such file, or no safetensors file.
        FisherError: no Fisher's.
    """
    arrays, metadata = checkpoint.read(path)
    if metadata.get("kind") not in NAMES:
        raise FisherError(
            f"{path} is no Fisher: its kind is {metadata.get('kind')!r}, expected {MASK} or "
            f"{DIAGONAL}; make it with 'fmn fisher'"
        )
    return arrays, metadata


def mask_nodes(arrays: Arrays) -> Nodes:
    """Return the tensors ``layer.{l}.attention`` and ``layer.{l}.feed_forward`` as one table each.

    Others are left out.

    Raises:
        FisherError: one is missing or of another size than those of the other layers, or holds NaN,
            infinity or a negative value.
    """
    layers = sum(name.endswith(".attention") for name in arrays)
    if not layers:
        raise FisherError(
            "no mask Fisher: it has no tensor layer.0.attention; make one with 'fmn fisher'"
        )
    return Nodes(_stacked(arrays, "attention", layers), _stacked(arrays, "feed_forward", layers))


def _stacked(arrays: Arrays, part: Part, layers: int) -> Array:
    names = [f"layer.{layer}.{part}" for layer in range(layers)]
    for name in names:
        if name not in arrays:
            raise FisherError(
                f"this mask Fisher has {layers} layers but no tensor {name}; compute it again with "
                "'fmn fisher'"
            )
        shape, expected = arrays[name].shape, arrays[names[0]].shape
        if shape != expected or len(shape) != 1 or not shape[0]:
            raise FisherError(
                f"this mask Fisher's {name} has shape {shape}; expected one axis, as long as that "
                f"of {names[0]}: layers of different sizes cannot be drawn as one map"
            )
        _check_values(name, arrays[name])
    return np.stack([arrays[name].astype(np.float64) for name in names])


def _check_values(name: str, values: Array) -> None:
    if not (np.isfinite(values) & (values >= 0)).all():
        raise FisherError(
            f"this Fisher's {name} holds NaN, infinite or negative values; compute it again with "
            "'fmn fisher'"
        )


def group_means(arrays: Arrays, metadata: Mapping[str, str]) -> dict[str, Array]:
    """Return a diagonal Fisher's mean over each group of parameters: [layers] by group.

    Weights and biases are taken together.

    The groups are query, key, value, attention output, first and second (linear layer of the
    feed-forward block), as the family's description names them; parameters that a family fuses are
    one group, such as ``query + key + value``. Layer norms, embeddings, the pooler and a decoder's
    cross attention, which an encoder's layers lack, are in none.

    Raises:
        ArchitectureError: an unknown family.
        FisherError: parameters are missing, or hold NaN, infinity or a negative value.
    """
    family = architectures.get(metadata.get("model_type", ""))
    layers = family.found_layers(arrays)
    if not layers:
        raise FisherError(
            f"this diagonal Fisher has no parameters of a {family.model_type} model's layers; make "
            "one with 'fmn fisher'"
        )
    modules = [_groups(layer, arrays) for layer in layers]
    everywhere = [group for group in modules[0] if all(group in each for each in modules)]
    return {
        group: np.array([_mean(arrays, each[group]) for each in modules]) for group in everywhere
    }


def _groups(layer: Layer, arrays: Arrays) -> dict[str, list[str]]:
    """Return groups and the prefixes of the parameters that are in each."""
    roles_of: dict[str, dict[str, None]] = {}
    for block in (block for block in layer.blocks if block.part != "cross_attention"):
        half = len(block.governed) // 2
        if block.part == "feed_forward":
            roles = {"first": block.governed, "second": block.output}
        else:
            roles = {
                "query": block.governed[:half],
                "key": block.governed[half:],
                "value": block.value,
            }
            roles["attention output"] = block.output
        for role, slices in roles.items():
            for each in slices:
                if each.parameter in arrays or not each.optional:
                    roles_of.setdefault(each.parameter.rpartition(".")[0], {})[role] = None
    groups: dict[str, list[str]] = {}
    for module, found in roles_of.items():
        groups.setdefault(" + ".join(found), []).append(f"{module}.")
    return groups


def _mean(arrays: Arrays, prefixes: Sequence[str]) -> float:
    found = {name: array for name, array in arrays.items() if name.startswith(tuple(prefixes))}
    if not found:
        raise FisherError(
            f"this diagonal Fisher has no parameters {prefixes[0]}*; compute it again with 'fmn "
            "fisher'"
        )
    for name, array in found.items():
        _check_values(name, array)
    return float(
        sum(array.sum(dtype=np.float64) for array in found.values())
        / sum(array.size for array in found.values())
    )


def described(metadata: Mapping[str, str]) -> str:
    """Return what a Fisher says of itself: ``mask Fisher · 128 examples · labels: true · …``.

    It is one line.
    """
    said = [NAMES.get(metadata.get("kind", ""), "Fisher")]
    said += [f"{metadata['examples']} examples"] if "examples" in metadata else []
    said += [f"labels: {metadata['labels']}"] if "labels" in metadata else []
    said += [metadata[name] for name in ("placement", "aggregation") if name in metadata]
    said += [_data(metadata["data"])] if metadata.get("data") else []
    said += (
        [f"{metadata['model_type']} model {metadata.get('model', '')[:12]}".rstrip()]
        if "model_type" in metadata
        else []
    )
    return printable(" · ".join(said))


def _data(text: str) -> str:
    """Return what the examples were: what fmn wrote, else what the user wrote.

    What fmn writes is like ``sst2/train, seed 0, 128 tokens``.
    """
    try:
        said = json.loads(text)
        seed = "in file order" if said["seed"] is None else f"seed {said['seed']}"
        return f"{said['task']}/{said['split']}, {seed}, {said['max_length']} tokens"
    except (ValueError, TypeError, KeyError):
        return text


def printable(text: str) -> str:
    """Return a text without characters that steer a terminal or turn the writing's direction."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
