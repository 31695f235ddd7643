"""GLUE's tasks as they are, and tasks of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fmn.errors import ParamsError
from fmn.evaluation import Task, get_task, register_task, task_names
from fmn.evaluation.tasks import _TASKS

TOY = {"name": "toy", "columns": ("text",), "labels": ("a", "b"), "metrics": ("accuracy",)}


# From the dataset card of nyu-mll/glue and the metrics of the GLUE paper.
@pytest.mark.parametrize(
    ("name", "columns", "labels", "metrics"),
    [
        ("cola", "sentence", "unacceptable acceptable", "matthews"),
        ("sst2", "sentence", "negative positive", "accuracy"),
        ("mrpc", "sentence1 sentence2", "not_equivalent equivalent", "accuracy f1"),
        ("qqp", "question1 question2", "not_duplicate duplicate", "accuracy f1"),
        ("stsb", "sentence1 sentence2", "", "pearson spearman"),
        ("mnli", "premise hypothesis", "entailment neutral contradiction", "accuracy"),
        ("qnli", "question sentence", "entailment not_entailment", "accuracy"),
        ("rte", "sentence1 sentence2", "entailment not_entailment", "accuracy"),
        ("wnli", "sentence1 sentence2", "not_entailment entailment", "accuracy"),
    ],
)
def test_glue(name: str, columns: str, labels: str, metrics: str) -> None:
    task = get_task(name)
    assert (task.name, " ".join(task.columns), " ".join(task.labels)) == (name, columns, labels)
    assert " ".join(task.metrics) == metrics
    assert task.headline == task.metrics[0]
    assert task.is_regression == (name == "stsb")
    assert (task.train, task.label) == ("train", "label")
    matched = ("validation_matched", "validation_mismatched")
    assert task.validation == (matched if name == "mnli" else ("validation",))
    assert name in task_names()


def test_tasks_are_frozen_and_comparable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        get_task("rte").name = "other"  # type: ignore[misc]
    assert len({get_task("rte"), get_task("rte")}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ()}, "at least 1"),
        ({"columns": ("a", "b", "c")}, "at most 2"),
        ({"columns": ("a", "a")}, "named twice: a, a"),
        ({"labels": ("only",)}, "nothing to predict"),
        ({"labels": ("not_same", "NOT SAME")}, "differ by more than case"),
        ({"metrics": ()}, "at least 1"),
        ({"validation": ("../secret",)}, "pattern"),
        ({"train": ""}, "pattern"),
    ],
)
def test_malformed_tasks_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Task.model_validate(TOY | change)


def test_a_name_that_fits_no_path_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"bad task name '\.\./rte'"):
        Task.model_validate(TOY | {"name": "../rte"})


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(
        ParamsError,
        match=r"unknown task 'sst-2'; did you mean 'sst2'\? \(known: cola, .*\.yaml file",
    ):
        get_task("sst-2")


def test_registered_tasks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_TASKS, "_items", dict(_TASKS._items))
    register_task(Task.model_validate(TOY))
    assert get_task("toy").columns == ("text",)
    with pytest.raises(ParamsError, match="'toy' is registered already"):
        register_task(Task.model_validate(TOY))


def test_a_task_file(tmp_path: Path) -> None:
    file = tmp_path / "boolq.yaml"
    file.write_text(
        "name: boolq\ncolumns: [question, passage]\nlabels: [no, yes]\nmetrics: [accuracy]\n"
    )
    assert get_task(str(file)) == Task(
        name="boolq", columns=("question", "passage"), labels=("no", "yes"), metrics=("accuracy",)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: toy\ncolums: [a]\nlabels: []\nmetrics: [pearson]",
            "unknown key 'colums'; did you mean 'columns'?",
        ),
        ("name: toy\nlabels: []\nmetrics: [pearson]", "columns: Field required"),
        ("name: To y\ncolumns: [a]\nlabels: []\nmetrics: [pearson]", "bad task name 'To y'"),
        ("- a", "must hold a mapping with the keys"),
        ("", "must hold a mapping with the keys"),
        ("name: [", "is not YAML"),
    ],
)
def test_a_bad_task_file_says_so_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "toy.yml"
    file.write_text(text)
    with pytest.raises(ParamsError) as error:
        get_task(str(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_task_files(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cannot read .*gone.yaml: No such file"):
        get_task(str(tmp_path / "gone.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParamsError, match="not UTF-8"):
        get_task(str(tmp_path / "binary.yaml"))


def test_importing_is_cheap() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'sklearn', 'scipy', 'pandas', 'pyarrow'}"
    program = (
        f"import sys, fmn.evaluation as e; e.get_task('rte'); print(sorted({heavy} & "
        "set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
