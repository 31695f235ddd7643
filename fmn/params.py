"""The one description of a zoo: its models, its data, and what is to be merged and measured."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fmn.errors import ParamsError, nearest
from fmn.recipe import (
    Dtype,
    FisherSettings,
    Heads,
    ModelEntry,
    Parameters,
    Parent,
    RefitSettings,
)
from fmn.schema import Address, Frozen, parse, read_yaml

MANY = 10**9
"""Merges that nobody means: no limit can be higher."""


class TooManyError(ParamsError, ValueError):
    """More merges than a person means; a ValueError, so that pydantic says where."""


class Method(Frozen):
    """A merge rule with parameters of its own; its name alone will do.

    Attributes:
        method: the name of a merge rule.
        parameters: of the rule, before those of ``merge.parameters``; a list of values makes a
            merge with each of them.
    """

    method: str
    parameters: Parameters = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, method: Any) -> Any:
        return {"method": method} if isinstance(method, str) else method


class MergeSettings(Frozen):
    """Which merges are made.

    Attributes:
        methods: merge rules, each a name or ``{method, parameters}``.
        sizes: how many models at a time; ``all`` is every number from two up.
        combinations: the sets of models, by name, instead of sizes.
        parameters: of those methods that have them; a list of values makes a merge with each.
        weights: λ by model name; 1 (or the model's own ``weight``) where it is not given.
        dtype: of the merges.
        heads: what becomes of them, ``refit``, ``own`` or ``merged``; a list makes a merge with
            each, of one backbone for ``refit`` and ``own``.
        limit: how many merges a run may make; more is more often a slip than meant.
        keep: which merges the store keeps as models that load: ``none``, the ``best`` method's of
            each set of models, or ``all``.
    """

    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = (
        Method(method="average"),
        Method(method="mask-fisher"),
    )
    sizes: tuple[Annotated[int, Field(ge=1)], ...] | Literal["all"] = "all"
    combinations: tuple[tuple[str, ...], ...] = ()
    parameters: Parameters = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)
    dtype: Dtype = "same"
    heads: Annotated[tuple[Heads, ...], Field(min_length=1)] = ("refit",)
    limit: Annotated[int, Field(ge=1, le=MANY)] = 100_000
    keep: Literal["none", "best", "all"] = "none"

    @field_validator("heads", mode="before")
    @classmethod
    def _one_or_several(cls, heads: Any) -> Any:
        return (heads,) if isinstance(heads, str) else heads

    @model_validator(mode="after")
    def _sizes_or_combinations(self) -> MergeSettings:
        # by value, not by what was set: a description that travelled says its defaults too
        if self.combinations and self.sizes != "all":
            raise ValueError("give sizes or combinations, not both")
        return self


class EvaluateSettings(Frozen):
    """How models are measured.

    Attributes:
        split: of each task.
        limit: rows per split, the first in file order; where nothing is said, all.
        max_length: tokens per example.
        batch_size: examples per forward pass; changes nothing but speed.
        select: share of each split's rows, above 0 and below 1, by which the best merges are
            chosen; scores are of the other rows then. Where nothing is said, merges are chosen by
            the rows that scores are of, and the best one's are too high.
    """

    split: str = "validation"
    limit: Annotated[int, Field(ge=1)] | None = None
    max_length: Annotated[int, Field(ge=4)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 32
    select: Annotated[float, Field(gt=0, lt=1)] | None = None


Size = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?[KMG]i?B$")]
"""Of memory, such as ``20GiB``."""


class MemorySettings(Frozen):
    """How mask Fishers of large models fit into memory; only last bits of results depend on it.

    Attributes:
        checkpointing: keep only what goes into each layer, and run it again in the backward pass:
            less memory, more time.
        device_map: keep layers that do not fit on the device in the CPU's memory, or else on disk,
            until they run. Sizes say how much weights may take, ``{device: 20GiB, cpu: 60GiB}``;
            ``auto`` is 70% of what is free on the device and 90% of the CPU's. It needs accelerate,
            and implies checkpointing where a layer does not fit.
    """

    checkpointing: bool = False
    device_map: Literal["auto"] | dict[Literal["device", "cpu"], Size] | None = None


File = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\n\r\x00]+$")]
"""The path of a file, and not what is in it."""


class SecuritySettings(Frozen):
    """Who may talk with a Dask cluster of one's own, as ``distributed.Security`` has it.

    Attributes:
        tls_ca_file: the authority that signed the cluster's certificates, a PEM file.
        tls_client_cert: the run's certificate, a PEM file.
        tls_client_key: its key, a PEM file; null where the certificate's file has it.
        tls_ciphers: that OpenSSL may use; null is its own choice.
        require_encryption: refuse connections without TLS.
    """

    tls_ca_file: File
    tls_client_cert: File
    tls_client_key: File | None = None
    tls_ciphers: str | None = None
    require_encryption: bool = True

    def files(self) -> dict[str, str]:
        """Return the files by setting."""
        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
        return {name: file for name in names if (file := getattr(self, name)) is not None}


class RunnerSettings(Frozen):
    """Where the flow runs its tasks; nothing here changes a result.

    Attributes:
        kind: ``threads`` of the flow's own process, or the workers of a ``dask`` cluster.
        address: of a Dask scheduler; without it a local cluster lasts as long as the run.
        security: of connections to that address, with a certificate of the run.
        workers: processes of a local cluster; null is one per device.
        devices: of one machine, each given to one task at a time: ``auto`` (every GPU, else the
            CPU) or names, of which ``cpu`` may be repeated (``[cpu, cpu]`` runs two tasks at once).
        batch: combinations in one task; ``auto`` makes at most fifty tasks of each kind.
        timeout: seconds that one step of a task may take.
        retries: of a task that failed on input or output.
        memory: how Fishers of large models fit into it.
    """

    kind: Literal["threads", "dask"] = "threads"
    address: Address | None = None
    security: SecuritySettings | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    devices: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    timeout: Annotated[float, Field(gt=0)] = 3600.0
    retries: Annotated[int, Field(ge=0)] = 2
    memory: MemorySettings = MemorySettings()

    @model_validator(mode="after")
    def _what_goes_together(self) -> RunnerSettings:
        if self.kind == "threads" and (self.address or self.workers):
            raise ValueError(
                "address and workers are for kind: dask; with threads, devices says how many tasks "
                "run at once"
            )
        gpus = (
            [device for device in self.devices if not device.startswith("cpu")]
            if self.devices != "auto"
            else []
        )
        if twice := sorted({device for device in gpus if gpus.count(device) > 1}):
            raise ValueError(
                f"devices: {twice[0]} twice; a GPU is given to one task at a time, only cpu may be "
                "repeated"
            )
        if self.security and not (self.address or "").startswith("tls://"):
            raise ValueError(
                "security is for a cluster of your own, with an address that begins with tls://; "
                "the run's own cluster has certificates of its own"
            )
        if self.address and self.workers:
            raise ValueError(
                "a cluster that has an address has its workers already; leave out workers"
            )
        return self


class Params(Frozen):
    """A zoo and what is done with it.

    Attributes:
        store: where results are kept: a directory, or ``s3://bucket/prefix``.
        data: hub id or directory of the tasks' data.
        parent: the pretrained model that all are fine-tunes of, for the methods that need it, and
            to check the models against.
        models: fine-tunes of one parent, each with a name of its own.
        fisher: how Fishers are computed.
        refit: on what heads are refitted.
        merge: which merges are made.
        evaluate: how models are measured.
        runner: where the flow runs its tasks.
    """

    store: Address = ".fmn/store"
    data: Address = "nyu-mll/glue"
    parent: Parent | None = None
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=2)]
    fisher: FisherSettings = FisherSettings()
    refit: RefitSettings = RefitSettings()
    merge: MergeSettings = MergeSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    runner: RunnerSettings = RunnerSettings()

    @field_validator("models")
    @classmethod
    def _each_name_once(cls, models: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        names = [model.name for model in models]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two models are called {min(twice)}; give one of them a 'name' of its own"
            )
        return models

    @field_validator("merge")
    @classmethod
    def _models_that_are_there(cls, merge: MergeSettings, info: ValidationInfo) -> MergeSettings:
        names = [model.name for model in info.data.get("models", ())]
        if not names:
            return merge
        if merge.sizes != "all" and max(merge.sizes, default=0) > len(names):
            raise ValueError(
                f"sizes: merges of {max(merge.sizes)} models, but there are {len(names)}"
            )
        for name in (
            *merge.weights,
            *(name for combination in merge.combinations for name in combination),
        ):
            if name not in names:
                raise ValueError(
                    f"no model is called '{name}'{nearest(name, names)} (there are: "
                    f"{', '.join(names)})"
                )
        for combination in merge.combinations:
            if not combination or len(set(combination)) < len(combination):
                raise ValueError(
                    f"combinations: [{', '.join(combination)}]; expected different models"
                )
        return merge

    @field_validator("models")
    @classmethod
    def _each_has_a_task(cls, models: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        if idle := [model.name for model in models if model.task is None]:
            raise ValueError(f"model {idle[0]} has no task; a zoo measures each of its models")
        return models

    @model_validator(mode="after")
    def _one_weight_each(self) -> Params:
        own = [model.name for model in self.models if model.weight != 1]
        if both := sorted(set(own) & set(self.merge.weights)):
            raise ValueError(
                f"model {both[0]} has a weight of its own and one in merge.weights; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _some_weight_in_every_merge(self) -> Params:
        idle = [name for name, entry in self.entries().items() if entry.weight == 0]
        fewest = min(self._sizes(), default=0)
        merges = self.merge.combinations or [idle[:fewest]] * (0 < fewest <= len(idle))
        for merge in merges:
            if set(merge) <= set(idle):
                raise ValueError(
                    f"every weight of the merge of {', '.join(merge)} is 0; expected at least one "
                    "above 0"
                )
        return self

    @model_validator(mode="after")
    def _no_more_merges_than_meant(self) -> Params:
        self.check_count(len(self.merge.methods) * len(set(self.merge.heads)))
        return self

    def check_count(self, methods: int) -> None:
        """Refuse more merges than the limit, before any of them is thought of.

        Args:
            methods: by how many methods each set of models is merged, at least.

        Raises:
            ParamsError: the line has the number, and what to write instead.
        """
        sets = self.count()
        count = sets * methods
        if count > self.merge.limit:
            both_ends = f"sizes: [2, {len(self.models)}]"
            fewer = both_ends if self.merge.sizes == "all" else "fewer sizes"
            more = f", or allow them with 'limit: {count}'" if count <= MANY else ""
            raise TooManyError(
                f"merge: {_in_digits(sets)} sets of models by {methods:,} methods are "
                f"{_in_digits(count)} merges; expected at most {self.merge.limit:,}: choose some, "
                f"with '{fewer}' or combinations{more}"
            )

    def entries(self) -> dict[str, ModelEntry]:
        """Return the models by name, each with its λ."""
        weights = self.merge.weights
        return {
            m.name: m.model_copy(update={"weight": weights[m.name]}) if m.name in weights else m
            for m in self.models
        }

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Iterate over the sets of models to merge, small ones first, in ``models``' order."""
        names = [model.name for model in self.models]
        if self.merge.combinations:
            chosen = {
                tuple(sorted(combination, key=names.index))
                for combination in self.merge.combinations
            }
            yield from sorted(chosen, key=lambda c: (len(c), [names.index(name) for name in c]))
            return
        for size in self._sizes():
            yield from combinations(names, size)

    def count(self) -> int:
        """Return how many sets of models there are to merge."""
        if self.merge.combinations:
            return len({frozenset(combination) for combination in self.merge.combinations})
        if self.merge.sizes == "all":
            return (1 << len(self.models)) - len(self.models) - 1
        return sum(comb(len(self.models), size) for size in self._sizes())

    def _sizes(self) -> list[int]:
        return (
            list(range(2, len(self.models) + 1))
            if self.merge.sizes == "all"
            else sorted(set(self.merge.sizes))
        )


def _in_digits(count: int) -> str:
    return f"{count:,}" if count < MANY else f"more than 10^{int((count.bit_length() - 1) * 0.301)}"


def read_params(path: Path) -> Params:
    """Read a params file; relative paths in it are taken from the current directory, as in a shell.

    Raises:
        ParamsError: not there, not YAML, or not the description of a zoo.
    """
    return parse(Params, read_yaml(path), str(path))
