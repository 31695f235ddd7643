"""What goes into a merge: models, opened and not read yet, and what was computed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fmn import architectures
from fmn.architectures import Architecture, Layer
from fmn.checkpoint import Checkpoint, Tensors, weights_digest
from fmn.statistics import Backbone, Measurement


@dataclass(frozen=True)
class Source:
    """One model of a merge.

    Attributes:
        name: for messages: a path, a hub id, or the task of a model in memory.
        task: its task.
        model_type: its family.
        setting: looks a name up in its configuration.
        tensors: all of its tensors, by full name.
        weight: λ.
        statistics: of this model, by name; those that the rule needs.
        checkpoint: None for a model in memory.
        known_digest: of the weights, where somebody remembers it.
    """

    name: str
    task: str
    model_type: str
    setting: Callable[[str], Any]
    tensors: Tensors
    weight: float = 1.0
    statistics: Mapping[str, Measurement] = field(default_factory=dict)
    checkpoint: Checkpoint | None = field(default=None, compare=False)
    known_digest: str = ""

    @cached_property
    def digest(self) -> str:
        """Digest of the weights."""
        return self.known_digest or weights_digest(self.tensors)

    @cached_property
    def copies(self) -> frozenset[str]:
        """Names of matrices that are the word embeddings a second time.

        What is called so and differs is the model's own.

        A configuration that says ``tie_word_embeddings`` is not enough: transformers 5 writes that
        for a T5 with an output matrix of its own, and takes two matrices that differ for two.
        """
        if not self.setting("tie_word_embeddings"):
            return frozenset()
        embeddings = next((self.tensors[name] for name in self._embeddings), None)
        return frozenset(
            name
            for name in self._doubles
            if embeddings is None or _equal(self.tensors[name], embeddings)
        )

    @cached_property
    def is_tied(self) -> bool:
        """Whether output matrices are the word embeddings.

        They are if the configuration says so, and no tensor says otherwise.
        """
        return bool(self.setting("tie_word_embeddings")) and self.copies == self._doubles

    @cached_property
    def _embeddings(self) -> frozenset[str]:
        architecture = architectures.get(self.model_type)
        return frozenset(
            full
            for full, short in architecture.backbone(self.tensors).items()
            if short in architecture.embeddings[:1]
        )

    @cached_property
    def _doubles(self) -> frozenset[str]:
        return (
            frozenset(filter(architectures.get(self.model_type).is_tied, self.tensors))
            - self._embeddings
        )

    def backbone(self, architecture: Architecture, layers: tuple[Layer, ...]) -> Backbone:
        """Return what it shares in a merge, as its family's description says."""
        names = architecture.backbone(self.tensors)
        shared = {
            short: self.tensors[full] for full, short in names.items() if full not in self.copies
        }
        return Backbone(architecture, layers, shared, self.setting)

    @cached_property
    def order(self) -> tuple[str, tuple[str, ...], float, str]:
        """What orders models canonically: the weights first of all, whatever the models' names."""
        measured = tuple(self.statistics[name].digest for name in sorted(self.statistics))
        return self.digest, measured, self.weight, self.task


def _equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Tell whether two matrices are the same; a few rows tell it of those that are not."""
    some = slice(None, None, max(1, len(one) // 8))
    return (
        one.shape == other.shape
        and np.array_equal(one[some], other[some])
        and np.array_equal(one, other)
    )
