"""What the stages of dvc.yaml do: take results from the store, or compute them into it.

A copy goes where DVC looks.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fmn import checkpoint
from fmn.catalog import ELSEWHERE
from fmn.errors import ParamsError
from fmn.keys import digest
from fmn.schema import Frozen, parse, read_json
from fmn.steps.context import Context
from fmn.steps.member import Member
from fmn.steps.step import Step
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import Row, ZooReport, zoo_report
from fmn.steps.zoo.run import Tally, run_steps, run_zoo
from fmn.store import Gone, Store

STAGE = re.compile(r"model\d+")
"""What DVC calls the items of a list: a params file need not name its models, and DVC's templates
know no default.
"""


class ModelInputs(Frozen):
    """What a model's Fishers depend on.

    Attributes:
        name: of the model.
        fishers: by kind, the key of the step that computes it, or the digest of one that is given.
    """

    name: str
    fishers: dict[str, str]


class MergedScores(Frozen):
    """A merge in the scores' file; see :class:`fmn.steps.zoo.leaderboard.Row`.

    By its ``choice`` it is chosen, where that is not its mean.
    """

    method: str
    scores: dict[str, float]
    normalized: dict[str, float]
    normalized_mean: float
    choice: float | None = None


class ScoresFile(Frozen):
    """The scores' file; see :class:`fmn.steps.zoo.leaderboard.ZooReport`."""

    individual: dict[str, float]
    merges: tuple[MergedScores, ...]
    mean_normalized: dict[str, float]


def write_inputs(graph: Graph, out: Path, fishers: Path | None = None) -> int:
    """Write what every stage depends on, a file each; return how many changed.

    Args:
        graph: of a zoo that was opened and checked.
        out: directory; files of models that are no longer there go.
        fishers: the directory of the models' Fishers; those of models that are no longer there go
            too.

    Raises:
        OutputError: it cannot be written to.
    """
    content: dict[str, Any] = {
        f"model{number}": ModelInputs(name=name, fishers=_statistic_keys(member)).model_dump()
        for number, (name, member) in enumerate(graph.zoo.members.items())
    }
    stale = [
        file
        for file in out.glob("model*.json")
        if STAGE.fullmatch(file.stem) and file.stem not in content
    ]
    for file in stale:
        file.unlink()
    for folder in fishers.glob("model*") if fishers else ():
        is_ours = STAGE.fullmatch(folder.name) and folder.name not in content and folder.is_dir()
        if is_ours and all(file.suffix == ".safetensors" for file in folder.iterdir()):
            # DVC leaves it, and would see in it a change of what the merges depend on
            shutil.rmtree(folder)
    return len(stale) + sum(
        _written(out / f"{name}.json", value)
        for name, value in {**content, "zoo": _merged(graph)}.items()
    )


def check_out_fishers(
    graph: Graph, inputs: Path, store: Store, context: Context, out: Path
) -> Tally:
    """Put a model's statistics into a new directory: the store's own bytes, for DVC to find.

    Args:
        graph: of the zoo.
        inputs: the model's file that :func:`write_inputs` wrote.
        store: where the statistics are, or will be.
        context: where to compute those that are not.
        out: directory.

    Raises:
        ParamsError: the file is of another zoo, or of other settings.
        FmnError: a statistic cannot be computed.
        StoreError: the store failed.
    """
    checkpoint.check_new(out)
    expected = parse(ModelInputs, read_json(inputs), str(inputs))
    member = graph.zoo.members.get(expected.name)
    if member is None or _statistic_keys(member) != expected.fishers:
        raise ParamsError(
            f"{inputs} is not what the params say now; write it again: fmn stage inputs (dvc repro "
            "does)"
        )
    mine = [each for each in graph.of("fisher") if each.models == (expected.name,)]
    steps = {reference.variant: graph.step(reference) for reference in mine}
    if not all(store.get(step.kind, step.key) for step in steps.values()):
        context.torch_device()
        store.check_writable()
    with checkpoint.new_directory(out) as staging:
        tally = run_steps(steps.values(), store, context, strict=True)
        for name, step in steps.items():
            _check_out(step, store, context, staging / f"{expected.name}.{name}.safetensors")
    return tally


def write_scores(graph: Graph, store: Store, context: Context, out: Path) -> Tally:
    """Do all that a zoo's description asks for, and write every score.

    The bytes are the same wherever and whenever it was done.

    Raises:
        FmnError: a step failed.
        StoreError: the store failed.
    """
    checkpoint.check_new(out)
    tally = run_zoo(graph, store, context)
    report = zoo_report(graph, store).as_json()
    _write(out, _json({name: report[name] for name in ScoresFile.model_fields}))
    return tally


def write_leaderboard(scores: Path, out: Path) -> ZooReport:
    """Write metrics.json, leaderboard.csv and methods.csv, from the scores, into a directory.

    The scores are read from their file.

    Raises:
        ParamsError: no such file, or not a file of scores.
        OutputError: they cannot be written.
    """
    file = parse(ScoresFile, read_json(scores), str(scores))
    rows = [Row(merge.method, merge.scores, choice=merge.choice) for merge in file.merges]
    report = ZooReport(file.individual, rows, {})
    _write(out / "metrics.json", _json(_metrics(report)))
    _write(out / "leaderboard.csv", _csv(_leaderboard(report)))
    _write(out / "methods.csv", _csv(_methods(report)))
    return report


def _statistic_keys(member: Member) -> dict[str, str]:
    return {name: member.statistic_key(name) for name in member.statistics}


def _merged(graph: Graph) -> dict[str, Any]:
    """Say what the merges and the evaluations depend on.

    An evaluation's key has its merge's in it.
    """
    individuals = [[each.models[0], graph.step(each).key] for each in graph.of("individual")]
    merges = [[*each.models, each.variant, graph.step(each).key] for each in graph.of("evaluate")]
    keep = graph.zoo.params.merge.keep
    return {
        "digest": digest("stages", [individuals, merges, keep]),
        "models": len(individuals),
        "merges": len(merges),
        "keep": keep,
    }


def _check_out(step: Step, store: Store, context: Context, dest: Path) -> None:
    record = store.get(step.kind, step.key)
    assert record is not None
    try:
        store.objects.check_out(record.outputs["fisher"], dest)
    except Gone:
        record = store.repair(record, lambda folder: step.draft(store, context, folder))
        store.objects.check_out(record.outputs["fisher"], dest)


def _metrics(report: ZooReport) -> dict[str, Any]:
    means: dict[str, dict[str, float]] = {}
    for method in report.methods():
        sizes = {f"{size}_models": report.mean_of(method, size) for size in report.sizes(method)}
        means[method] = {**sizes, "all": report.mean_of(method)}
    best: dict[str, dict[str, Any]] = {}
    for size in report.sizes():
        row = max((row for row in report.rows if len(row.scores) == size), key=report.choice)
        best[f"{size}_models"] = {
            "normalized": report.mean(row),
            "merge": _title(row),
            **({} if row.choice is None else {"note": ELSEWHERE}),
        }
    return {"mean_normalized": means, "best": best, "individual": dict(report.individual)}


def _leaderboard(report: ZooReport) -> Iterator[dict[str, Any]]:
    for row in sorted(report.rows, key=report.choice, reverse=True):
        scores = {f"score_{name}": row.scores.get(name, "") for name in report.individual}
        cells = {
            "merge": _title(row),
            "method": row.method,
            "models": len(row.scores),
            "normalized": report.mean(row),
        }
        yield {**cells, **scores}


def _methods(report: ZooReport) -> Iterator[dict[str, Any]]:
    for method in report.methods():
        for size in report.sizes(method):
            label = f"{method}, {size} models"
            yield {
                "label": label,
                "method": method,
                "models": size,
                "normalized": report.mean_of(method, size),
            }


def _title(row: Row) -> str:
    return f"{' + '.join(row.scores)} by {row.method}"


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()


def _written(file: Path, content: Any) -> bool:
    """Write a file unless it says that already; return whether it did not."""
    text = _json(content)
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    _write(file, text)
    return True


def _write(file: Path, text: str) -> None:
    with checkpoint.new_file(file, replace=True) as staging:
        staging.write_text(text, encoding="utf-8")
