"""A diagonal Fisher as a table: its mean over each layer's query, key, value and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fmn import architectures
from fmn.architectures import Layer
from fmn.errors import FisherError
from fmn.report.fishers import Array, Arrays, check_values


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
        if block.part == "feed_forward":
            roles = {"first": block.governed, "second": block.output}
        else:
            roles = {
                "query": block.governed[: -len(block.keys)],
                "key": block.keys,
                "value": block.value,
            }
            roles["attention output"] = block.output
        for role, slices in roles.items():
            for each in slices:
                if each.parameter in arrays or not each.optional:
                    roles_of.setdefault(each.parameter.rpartition(".")[0], {})[role] = None
    groups: dict[str, list[str]] = {}
    for module, names in roles_of.items():
        groups.setdefault(" + ".join(names), []).append(f"{module}.")
    return groups


def _mean(arrays: Arrays, prefixes: Sequence[str]) -> float:
    members = {name: array for name, array in arrays.items() if name.startswith(tuple(prefixes))}
    if not members:
        raise FisherError(
            f"this diagonal Fisher has no parameters {prefixes[0]}*; compute it again with 'fmn "
            "fisher'"
        )
    for name, array in members.items():
        check_values(name, array)
    return float(
        sum(array.sum(dtype=np.float64) for array in members.values())
        / sum(array.size for array in members.values())
    )
