"""Fishers beside their models: published once, and used by whoever merges, without the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fmn import checkpoint
from fmn.checkpoint import (
    FISHERS,
    Checkpoint,
    HubRepo,
    check_token,
    fetch_fishers,
    open_checkpoint,
    send_file,
)
from fmn.errors import CheckpointError, FisherError
from fmn.keys import canonical_json
from fmn.recipe import task_name
from fmn.scratch import scratch
from fmn.statistics import Measurement, Statistic, get_statistic
from fmn.steps.context import Context
from fmn.steps.statistic import UNSAID, KeyedStatistic, StatisticStep
from fmn.steps.step import NeedsError, identity
from fmn.store import Draft, Memo, Record, Store
from fmn.store.records import sound_record

RECORD = "record"
"""The entry of the file's metadata that holds the Fisher's record: what it was computed from, and
by whom.
"""


@dataclass(frozen=True)
class RecordedStatistic(KeyedStatistic):
    """A Fisher by its record alone.

    Attributes:
        record: in the store, or in the store of whoever published it.
    """

    record: Record

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What it was computed from."""
        return self.record.inputs

    @property
    def title(self) -> str:
        """Such as ``mask Fisher of sst2``."""
        statistic = get_statistic(self.record.inputs["of"])
        return f"{statistic.title} of {self.record.names['name']}"

    def provenance(self) -> dict[str, Any]:
        """What the inputs were called."""
        return self.record.names

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Refuse.

        Raises:
            NeedsError: nothing but a run can compute it again.
        """
        raise NeedsError(
            f"the file of the {self.title} is not in the store; 'fmn store verify' says how it is "
            "had again"
        )


@dataclass(frozen=True)
class Sidecar(RecordedStatistic):
    """A Fisher beside its model.

    Its key is the one that it was computed under, so that it serves whoever would compute it.

    Attributes:
        file: the Fisher, with the record among its metadata.
    """

    file: Path

    def measurement(self) -> Measurement:
        """Read it."""
        tensors, metadata = checkpoint.read(self.file)
        return Measurement(
            tensors, {name: value for name, value in metadata.items() if name != RECORD}
        )

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Take it from beside the model: the very bytes that were computed."""
        file = folder / "fisher.safetensors"
        self._restore(file)
        return Draft(files={"fisher": file}, made=self.record.made)

    def content(self) -> str:
        """Return the sha256 of the Fisher's file as it was in the store."""
        with scratch() as folder:
            file = folder / "fisher.safetensors"
            self._restore(file)
            return sha256(file.read_bytes()).hexdigest()

    def _restore(self, file: Path) -> None:
        measurement = self.measurement()
        checkpoint.write(file, measurement.tensors, dict(measurement.metadata))

    def fits(self, step: StatisticStep, explicit: Iterable[str]) -> bool:
        """Tell whether it has a step's task, labels and settings.

        Of the settings, only those that somebody said are compared.
        """
        task = self.record.inputs["task"]
        has = {**UNSAID, **step.statistic.silent, **self.record.inputs["settings"]}
        settings = step.settings.model_dump(mode="json") | {"labels": step.labels_used}
        return task == json.loads(
            canonical_json(step.task.content | {"order": step.label_order()})
        ) and all(has[name] == settings[name] for name in explicit if name in has)


def beside(opened: Checkpoint, statistic: Statistic, task: str, memo: Memo) -> Sidecar | None:
    """Return the Fisher beside a model, if there is one.

    Raises:
        FisherError: it is damaged, not a published Fisher, or one of other weights, or the hub
            fails.
    """
    file = opened.path / FISHERS / f"{statistic.option}.{task}.safetensors"
    if not file.is_file():
        try:
            fetch_fishers(opened.name, opened.path, statistic.option)
        except CheckpointError as error:
            raise FisherError(str(error)) from error
    if not file.is_file():
        return None
    try:
        record = sound_record(checkpoint.read(file)[1].get(RECORD, ""))
    except CheckpointError as error:
        raise FisherError(
            f"{error}; publish it again with 'fmn fisher push', or remove it"
        ) from error
    if record is None or record.kind != "fisher":
        raise FisherError(
            f"{file} has no record of what it is; publish it again with 'fmn fisher push'"
        )
    sidecar = Sidecar(record, file)
    if record.inputs["of"] != statistic.name:
        raise FisherError(
            f"{file} does not agree with the record in it; publish it again with 'fmn fisher push'"
        )
    has, needs = record.inputs["model"]["weights"], identity(opened, memo)["weights"]
    if has != needs:
        raise FisherError(
            f"{file} is of weights {has[:12]}, but the model's are {needs[:12]}; compute and "
            "publish it again, or remove it"
        )
    if memo.digest("published", [file], sidecar.content) != record.outputs["fisher"].sha256:
        raise FisherError(
            f"{file} is damaged: it is not what its record says; publish it again with 'fmn fisher "
            "push'"
        )
    return sidecar


def fitting(step: StatisticStep, explicit: Iterable[str]) -> Sidecar | None:
    """Return the Fisher beside a step's model, if it is what the step would compute.

    It is compared as far as somebody said what it is.

    Args:
        step: would compute it.
        explicit: names of the settings that somebody said; others are the published Fisher's.

    Raises:
        DataError: the labels do not fit.
        FisherError: there is one that is not this model's; that is no reason not to compute it.
    """
    sidecar = beside(step.checkpoint, step.statistic, step.task.name, step.memo)
    return sidecar if sidecar and sidecar.fits(step, explicit) else None


def of_model(
    opened: Checkpoint,
    store: Store,
    memo: Memo,
    *,
    statistic: Statistic,
    task: str | None,
    samples: int | None,
    key: str = "",
) -> Record:
    """Return the record of a model's Fisher in a store; ``key`` is the beginning of its key.

    Raises:
        FisherError: there is none, or several; the message says how to choose.
    """
    own = identity(opened, memo)
    records = [
        record
        for record in store.all("fisher").values()
        if record
        and record.inputs["model"] == own
        and record.inputs["of"] == statistic.name
        and task in (None, record.names["task"])
        and samples in (None, record.inputs["settings"]["samples"])
        and record.key.startswith(key.lower())
    ]
    if len(records) == 1:
        return records[0]
    if not records:
        command = (
            f"fmn fisher {opened.name} --task {task or 'TASK'} --kind {statistic.option} --store "
            f"{store.url} --out FILE"
        )
        raise FisherError(
            f"{store.url} has no such {statistic.title} of {opened.name}; compute it first: "
            f"{command}"
        )
    which = ", ".join(
        sorted(
            f"{r.names['task']} of {r.inputs['settings']['samples']} samples ({r.key[:8]})"
            for r in records
        )
    )
    raise FisherError(
        f"{store.url} has several of {opened.name} ({statistic.title}, {len(records)}): {which}; "
        "choose with --task, --samples or --key"
    )


def publish(
    model: str,
    to: str | None,
    store: Store,
    memo: Memo,
    *,
    revision: str | None = None,
    statistic: Statistic | None = None,
    task: str | None = None,
    samples: int | None = None,
    key: str = "",
    dry_run: bool = False,
) -> str:
    """Put a Fisher of the store beside its model, with the record that says what it is.

    Say where, for people.

    Args:
        model: a directory or hub id.
        to: ``hf://org/name``; None is the model's own directory, or its repository.
        store: that has the Fisher.
        memo: digests of files.
        revision: of a hub id.
        statistic: which one; None is the mask Fisher.
        task: which, where there are several.
        samples: which, where there are several.
        key: which, where there are several: the beginning of its key.
        dry_run: only say it.

    Raises:
        FisherError: the store has no such Fisher, or several.
        OutputError: it cannot be written, or the hub refuses it.
    """
    statistic = statistic or get_statistic("mask-fisher")
    opened = open_checkpoint(model, revision)
    is_local = to is None and Path(model).expanduser().is_dir()
    repo = (
        None
        if is_local
        else HubRepo.parse(to or f"hf://{model}" + (f"@{revision}" if revision else ""))
    )
    if repo and not dry_run:
        check_token()
    record = of_model(opened, store, memo, statistic=statistic, task=task, samples=samples, key=key)
    name = f"{FISHERS}/{statistic.option}.{task_name(record.names['task'])}.safetensors"
    place = str(opened.path / name) if repo is None else f"{repo}/{name}"
    source = (
        f"{record.names['task']}, {record.inputs['settings']['samples']} samples "
        f"({record.key[:12]})"
    )
    what = f"{statistic.title} of {source}"
    if dry_run:
        return f"{place}: would be the {what}"
    if repo is None:
        _write(record, store, Path(place))
        return f"{place}: the {what}"
    with scratch() as folder:
        file = folder / "fisher.safetensors"
        _write(record, store, file)
        return f"{send_file(file, repo, name, message=f'{what}, for merging')}: the {what}"


def _write(record: Record, store: Store, file: Path) -> None:
    measurement = Measurement(*checkpoint.read(store.path(record.outputs["fisher"])))
    # a statistic is made of no other result, and earlier versions of fmn do not know the field
    text = record.model_dump_json(exclude={"read"})
    with checkpoint.new_file(file, replace=True) as staging:
        checkpoint.write(staging, measurement.tensors, {**measurement.metadata, RECORD: text})


def pull(
    opened: Checkpoint, memo: Memo, *, statistic: Statistic, task: str | None
) -> Sequence[Sidecar]:
    """Return the Fishers beside a model.

    Raises:
        FisherError: there is none, or one does not belong to the model.
    """
    fetch_fishers(opened.name, opened.path, statistic.option)
    files = sorted((opened.path / FISHERS).glob(f"{statistic.option}.{task or '*'}.safetensors"))
    if not files:
        what = f"{statistic.title} of {task}" if task else statistic.title
        raise FisherError(
            f"no {what} is beside {opened.name}; ask its owner to publish one with 'fmn fisher "
            "push'"
        )
    sidecars = [
        beside(
            opened,
            statistic,
            file.name.removeprefix(f"{statistic.option}.").removesuffix(".safetensors"),
            memo,
        )
        for file in files
    ]
    return [fisher for fisher in sidecars if fisher]
