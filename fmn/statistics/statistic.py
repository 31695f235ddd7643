"""What a statistic of a model declares: its settings, its tensors, its price, its use in a merge.

A statistic is computed of one model from training examples, once, and kept in a file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from math import prod
from types import EllipsisType
from typing import Any, ClassVar, Literal

import numpy as np

from fmn.architectures import Architecture, Layer
from fmn.architectures.description import Setting
from fmn.checkpoint import Tensors, weights_digest
from fmn.errors import FisherError
from fmn.params import MemorySettings
from fmn.recipe import FisherSettings

Array = np.ndarray[Any, np.dtype[Any]]

At = slice | EllipsisType
"""Which rows of a parameter: some, or ``...`` for all."""

PerParameter = Callable[[str, tuple[int, ...], At], Any]
"""From a parameter's backbone-relative name, its shape and rows of it to what a merge rule gets."""

SHARED_SETTINGS = ("samples", "seed", "replacement", "max_length", "batch_size", "dtype")
"""Settings that say which examples there are and what the model computes in: every statistic's."""


@dataclass(frozen=True)
class Measurement:
    """A statistic of one model: tensors by name, and what they say they are.

    Attributes:
        tensors: of the file.
        metadata: ``kind``, ``model_type``, ``model`` (digest of the weights), ``examples``, and the
            settings that it was computed with.
    """

    tensors: Tensors
    metadata: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The name of the statistic; empty where the file says none."""
        return self.metadata.get("kind", "")

    @cached_property
    def digest(self) -> str:
        """Digest of the values."""
        return weights_digest(self.tensors)


@dataclass(frozen=True)
class Backbone:
    """What a model shares in a merge.

    Attributes:
        architecture: the description of its family.
        layers: its layers.
        tensors: by backbone-relative name.
        setting: looks a name up in its configuration.
    """

    architecture: Architecture
    layers: tuple[Layer, ...]
    tensors: Tensors
    setting: Setting

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


class Statistic(ABC):
    """One kind of statistic. A subclass says what it is; the rest of fmn reads that.

    Attributes:
        name: in rules, records, files and the store.
        option: what ``fmn fisher --kind`` calls it, and the files beside models.
        title: what people call it.
        paper: where it comes from.
        settings: which of :class:`fmn.recipe.FisherSettings` it reads besides
            ``SHARED_SETTINGS``; they enter its key.
        silent: which of those its key has only where they are otherwise: Fishers were computed
            before there was such a setting.
        labels: that its loss is taken of where nobody says which; None where it takes no labels.
        language_labels: the same for language tasks, where the expectation over labels takes a
            backward pass per token of the vocabulary; None for ``labels``.
        memory: which of :class:`fmn.params.MemorySettings` it can be computed under.
        estimator: ``module:function`` that computes it, imported when it is needed. It is called
            with a model, batches, ``progress`` and what :meth:`options` returns, and gives an
            object like :class:`fmn.fisher.Estimate`.
    """

    name: ClassVar[str]
    option: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    settings: ClassVar[tuple[str, ...]] = ()
    silent: ClassVar[Mapping[str, Any]] = {}
    labels: ClassVar[Literal["true", "expected", "sampled"] | None] = None
    language_labels: ClassVar[Literal["true", "expected", "sampled"] | None] = None
    memory: ClassVar[tuple[str, ...]] = ()
    estimator: ClassVar[str]

    def __init_subclass__(cls, **more: Any) -> None:
        """Take the name for the option where there is none."""
        super().__init_subclass__(**more)
        if "name" in vars(cls) and "option" not in vars(cls):
            cls.option = cls.name

    # --- how it is computed ---

    def labels_of(self, settings: FisherSettings, *, is_language: bool = False) -> str:
        """Return the labels that its loss is taken of; empty where it takes none."""
        default = self.language_labels if is_language and self.language_labels else self.labels
        return (settings.labels or default or "") if "labels" in self.settings else ""

    def taken(self, settings: FisherSettings, *, is_language: bool = False) -> dict[str, Any]:
        """Return the settings of its own, as its key has them."""
        plain = settings.model_dump(mode="json")
        own = {
            name: plain[name]
            for name in self.settings
            if name not in self.silent or plain[name] != self.silent[name]
        }
        labels = self.labels_of(settings, is_language=is_language)
        return own | ({"labels": labels} if labels else {})

    def options(
        self, settings: FisherSettings, memory: MemorySettings, *, is_language: bool = False
    ) -> dict[str, Any]:
        """Return the keyword arguments of its estimator."""
        own = {name: getattr(settings, name) for name in self.settings}
        labels = self.labels_of(settings, is_language=is_language)
        options = own | ({"labels": labels, "seed": settings.seed or 0} if labels else {})
        if "checkpointing" in self.memory:
            options["checkpointing"] = memory.checkpointing
        return options

    def order(self, settings: FisherSettings) -> Literal["length", "file"]:
        """Return in which order examples are batched: by length is fastest."""
        return "length"

    def check(
        self, settings: FisherSettings, memory: MemorySettings, *, is_language: bool = False
    ) -> None:
        """Refuse settings that contradict each other, before anything is loaded.

        Raises:
            FisherError: they do, or it cannot be computed under a device map.
        """
        if memory.device_map and "device_map" not in self.memory:
            raise FisherError(
                f"{self.title} cannot be computed under a device map; leave device_map out"
            )

    def in_vain(self, settings: FisherSettings, *, checkpointing: bool = False) -> list[str]:
        """Return the names of settings that somebody chose and that say nothing to it."""
        usual = FisherSettings()
        mine = (*SHARED_SETTINGS, *self.settings)
        changed = [
            name
            for name in FisherSettings.model_fields
            if name not in mine and getattr(settings, name) != getattr(usual, name)
        ]
        return changed + (
            ["checkpointing"] * (checkpointing and "checkpointing" not in self.memory)
        )

    def compute(self) -> Callable[..., Any]:
        """Import the estimator.

        Raises:
            FisherError: there is no such function.
        """
        module, _, function = self.estimator.partition(":")
        try:
            loaded: Callable[..., Any] = getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise FisherError(
                f"statistic {self.name}: its estimator {self.estimator} cannot be imported: {error}"
            ) from error
        return loaded

    @property
    def how(self) -> str:
        """Say how people compute it."""
        return f"'fmn fisher --kind {self.option}'"

    def lacks(self, has: FisherSettings | Measurement, reading: Mapping[str, Any]) -> str:
        """Say in a line what a rule reads that it lacks; nothing: it has all.

        Args:
            has: the settings that it is to be computed with, or itself.
            reading: how the rule reads it, see :class:`fmn.merging.Rule`.
        """
        return ""

    # --- what its file holds ---

    @abstractmethod
    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor of its file, by name."""

    def nbytes(self, backbone: Backbone, examples: int = 1) -> int:
        """Return about how many bytes it takes, in float32, if it is over so many examples."""
        return 4 * sum(prod(shape) for shape in self.layout(backbone).values())

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Iterate over what is wrong with a file for a model; no large tensor is read."""
        yield from self.misfits(measurement, self.layout(backbone))

    def misfits(
        self, measurement: Measurement, expected: Mapping[str, tuple[int, ...]]
    ) -> Iterator[str]:
        """Iterate over the first tensor that is not as expected, if there is one."""
        shapes = {name: tensor.shape for name, tensor in measurement.tensors.items()}
        for name in sorted(expected.keys() | shapes.keys()):
            if expected.get(name) != shapes.get(name):
                yield (
                    f"its {self.title}'s {name} has shape {shapes.get(name)}, expected "
                    f"{expected.get(name)}; is it of this model?"
                )
                return

    def unlike(self, one: Mapping[str, str], other: Mapping[str, str]) -> str:
        """Say why the measurements of two models cannot be compared; nothing if they can.

        Args:
            one: the metadata of one.
            other: those of the other.
        """
        for setting in self.settings:
            if one.get(setting) != other.get(setting):
                return (
                    f"taken with {setting} {one.get(setting)}, the other with {other.get(setting)}"
                )
        return ""

    # --- what a merge rule gets of it ---

    @abstractmethod
    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return, for each model, what a rule gets of its measurement for a parameter.

        Args:
            measurements: of all models of a merge, in their order.
            backbone: of one of them; they are alike.
            parameters: of the rule.

        Raises:
            FisherError: by what is returned, when values turn out to be broken; the message is
                about "its" measurement.
        """
