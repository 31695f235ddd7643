"""Sources, splits and samples; every way in which data is wrong has its own line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from fmn.errors import DataError
from fmn.evaluation import GLUE, Examples, Task, get_task, load_split, sample, validation_splits

WriteSplit = Callable[..., str]

RTE, SST2, STSB, MNLI = map(get_task, ("rte", "sst2", "stsb", "mnli"))
PAIRS = {
    "sentence1": ["a cat", "a dog", "it"],
    "sentence2": ["sat", "ran", "was"],
    "label": [1, 0, 1],
    "idx": [7, 8, 9],
}
SINGLES = {"sentence": ["good", "bad"], "label": [1, 0]}


def examples(n: int) -> Examples:
    return Examples("toy", "train", ([str(row) for row in range(n)],), np.arange(n))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_directory(write_split: WriteSplit) -> None:
    loaded = load_split(write_split("rte", "train", PAIRS), RTE, "train")
    assert (loaded.task, loaded.split, len(loaded)) == ("rte", "train", 3)
    assert loaded.texts == (["a cat", "a dog", "it"], ["sat", "ran", "was"])
    assert loaded.labels.tolist() == [1, 0, 1]
    assert loaded.labels.dtype == np.int64


def test_a_regression(write_split: WriteSplit) -> None:
    loaded = load_split(
        write_split("stsb", "train", PAIRS | {"label": [0.5, 5.0, -1.0]}), STSB, "train"
    )
    assert loaded.labels.dtype == np.float32
    assert loaded.labels.tolist() == [0.5, 5.0, -1.0]


def test_the_ways_in_which_parquet_holds_text_and_labels(write_split: WriteSplit) -> None:
    words = pa.array(["good", "bad"])
    for text in (
        words,
        words.cast(pa.large_string()),
        words.dictionary_encode(),
        pa.chunked_array([words[:1], words[1:]]),
    ):
        loaded = load_split(
            write_split("sst2", "train", {"sentence": text, "label": [True, False]}), SST2, "train"
        )
        assert loaded.texts == (["good", "bad"],)
        assert loaded.labels.tolist() == [1, 0]


def test_the_home_directory(write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", write_split("sst2", "train", SINGLES))
    assert len(load_split("~", SST2, "train")) == 2


@pytest.mark.parametrize("source", ["./gone", "/gone/data", "~/gone", "some/where/gone", ""])
def test_a_missing_directory(source: str) -> None:
    message = refused(lambda: load_split(source, RTE, "train"))
    assert f"data source '{source}' is not a directory" in message
    assert refused(lambda: validation_splits(source, RTE)) == message


def test_a_file_as_a_source(tmp_path: Path) -> None:
    (tmp_path / "glue.zip").touch()
    assert "is a file; name the directory" in refused(
        lambda: load_split(str(tmp_path / "glue.zip"), RTE, "train")
    )


def test_missing_tasks_and_splits_list_what_is_there(write_split: WriteSplit) -> None:
    write_split("rte", "train", PAIRS)
    source = write_split("rte", "validation", PAIRS)
    message = refused(
        lambda: load_split(source, Task(**RTE.model_dump() | {"name": "rtee"}), "train")
    )
    assert "rtee; did you mean 'rte'? (there: rte)" in message
    assert "no file" in refused(lambda: load_split(source, RTE, "../rte/train"))
    message = refused(lambda: load_split(source, RTE, "validaton"))
    assert (
        "validaton.parquet; did you mean 'validation'? (splits there: train, validation)" in message
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"sentence1": ["a"], "sentence_2": ["b"], "label": [0]},
            "has no column 'sentence2'; did you mean 'sentence_2'?",
        ),
        (
            {"sentence1": ["a"], "sentence2": ["b"]},
            "has no column 'label' (there: sentence1, sentence2)",
        ),
        (
            PAIRS | {"sentence2": ["a", None, "b"]},
            "row 1 (from 0) has no text in column 'sentence2'",
        ),
        (PAIRS | {"sentence2": [1, 2, 3]}, "column 'sentence2' holds int64, expected text"),
        (
            PAIRS | {"label": [1, 2, 3]},
            "row 1 (from 0) has label 2, outside task rte's 0 entailment, 1 not_entailment",
        ),
        (PAIRS | {"label": [1, -7, 3]}, "row 1 (from 0) has label -7, outside"),
        (
            PAIRS | {"label": [-1, -1, -1]},
            "row 0 (from 0) has no label (-1 or empty), as in GLUE's test splits",
        ),
        (PAIRS | {"label": [0, 1, None]}, "row 2 (from 0) has no label (-1 or empty)"),
        (PAIRS | {"label": ["x", "y", "z"]}, "column 'label' holds string, expected label numbers"),
        (
            dict.fromkeys(["sentence1", "sentence2", "label"], pa.array([], pa.string())),
            "has no rows",
        ),
    ],
)
def test_malformed_splits(write_split: WriteSplit, columns: dict[str, Any], message: str) -> None:
    source = write_split("rte", "train", columns)
    assert message in refused(lambda: load_split(source, RTE, "train"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1.0, -1.0, -1.0], "every label is -1, as in GLUE's test splits"),
        ([0.5, float("nan"), 1.0], "row 1 (from 0) has no finite label"),
        ([0.5, None, 1.0], "row 1 (from 0) has no finite label"),
        (["0.5", "1", "2"], "the labels are string, expected real numbers"),
    ],
)
def test_malformed_targets(write_split: WriteSplit, labels: list[Any], message: str) -> None:
    source = write_split("stsb", "train", PAIRS | {"label": labels})
    assert message in refused(lambda: load_split(source, STSB, "train"))


@pytest.mark.parametrize("damage", ["empty", "truncated", "corrupt"])
def test_a_damaged_file(write_split: WriteSplit, damage: str) -> None:
    source = write_split("rte", "train", PAIRS)
    file = Path(source, "rte", "train.parquet")
    content = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "corrupt": b"PAR1" + b"\xff" * 90 + content[94:],
        }[damage]
    )
    message = refused(lambda: load_split(source, RTE, "train"))
    assert f"{file} is not a readable Parquet file" in message
    assert message.endswith("fetch it again")


class TestHub:
    def test_a_dataset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def load_dataset(*args: Any, **options: Any) -> datasets.Dataset:
            asked.append((args, options))
            return datasets.Dataset.from_dict(PAIRS)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        loaded = load_split(GLUE, RTE, "train")
        assert asked == [(("nyu-mll/glue", "rte"), {"split": "train"})]
        assert loaded.texts == (["a cat", "a dog", "it"], ["sat", "ran", "was"])
        assert loaded.labels.tolist() == [1, 0, 1]
        assert "nyu-mll/glue (sst2, train) has no column 'sentence'" in refused(
            lambda: load_split(GLUE, SST2, "train")
        )

    @pytest.mark.parametrize("source", ["nyu-mll/glue", "glue"])
    def test_a_failure_says_that_there_is_no_directory_either(
        self, monkeypatch: pytest.MonkeyPatch, source: str
    ) -> None:
        def load_dataset(*args: Any, **options: Any) -> None:
            raise ConnectionError("Couldn't reach the Hub\n(offline)")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        message = refused(lambda: load_split(source, RTE, "train"))
        assert (
            f"there is no directory '{source}' either: ConnectionError: Couldn't reach the Hub "
            "(offline)" in message
        )
        assert "check the name, the network and HF_HUB_OFFLINE" in message


class TestValidationSplits:
    def test_the_hub_is_not_asked(self) -> None:
        assert validation_splits(GLUE, RTE) == {"": "validation"}
        assert validation_splits(GLUE, MNLI) == {
            "": "validation_matched",
            "mismatched": "validation_mismatched",
        }

    @pytest.mark.parametrize(
        ("present", "expected"),
        [
            (["validation"], {"": "validation"}),
            (["validation_matched"], {"": "validation_matched"}),
            (["validation_matched", "validation"], {"": "validation_matched"}),
            (
                ["validation", "validation_mismatched"],
                {"": "validation", "mismatched": "validation_mismatched"},
            ),
        ],
    )
    def test_a_directory_may_lack_some(
        self, write_split: WriteSplit, present: list[str], expected: dict[str, str]
    ) -> None:
        for split in present:
            source = write_split("mnli", split, {"label": [0]})
        assert validation_splits(source, MNLI) == expected

    def test_a_directory_without_any(self, write_split: WriteSplit) -> None:
        source = write_split("mnli", "train", {"label": [0]})
        message = refused(lambda: validation_splits(source, MNLI))
        assert "mnli/validation_matched.parquet" in message
        assert "(splits there: train)" in message
        assert "(there: mnli)" in refused(lambda: validation_splits(source, RTE))


class TestSample:
    def test_the_first_rows(self) -> None:
        assert sample(examples(10), 3).texts == (["0", "1", "2"],)
        assert sample(examples(3), 3).labels.tolist() == [0, 1, 2]

    def test_a_seeded_draw(self) -> None:
        drawn = sample(examples(100), 10, seed=4)
        expected = np.random.Generator(np.random.PCG64(4)).permutation(100)[:10]
        assert drawn.labels.tolist() == expected.tolist()
        assert drawn.texts == ([str(row) for row in expected],)
        assert sample(examples(100), 10, seed=5).labels.tolist() != expected.tolist()

    @pytest.mark.parametrize("seed", [None, 1])
    def test_too_many_takes_all_and_says_so(self, seed: int | None) -> None:
        with pytest.warns(
            UserWarning, match="toy/train has only 5 examples; took all of them, not 8"
        ):
            assert sorted(sample(examples(5), 8, seed).labels) == [0, 1, 2, 3, 4]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sample(examples(5), 5, seed)

    def test_a_draw_with_replacement_is_the_published_codes(self) -> None:
        np.random.seed(3)
        expected = np.random.choice(50, 40).tolist()
        drawn = sample(examples(50), 40, seed=3, replacement=True)
        assert drawn.labels.tolist() == expected
        assert len(set(expected)) < 40
        with pytest.warns(
            UserWarning, match="toy/train has only 50 examples; drew as many, not 51"
        ):
            assert len(sample(examples(50), 51, seed=3, replacement=True)) == 50

    def test_a_draw_with_replacement_needs_a_seed(self) -> None:
        assert "with replacement needs a seed" in refused(
            lambda: sample(examples(5), 2, replacement=True)
        )

    @pytest.mark.parametrize("n", [0, -3])
    def test_none_at_all_is_refused(self, n: int) -> None:
        assert f"cannot sample {n} examples of toy" in refused(lambda: sample(examples(5), n))


def test_the_real_glue(shared: Path) -> None:
    rows = {"sst2": 872, "rte": 277, "mrpc": 408, "qnli": 1500, "mnli": 1000, "qqp": 1000}
    for name, expected in rows.items():
        task, source = get_task(name), str(shared / "glue")
        (split,) = validation_splits(source, task).values()
        loaded = load_split(source, task, split)
        assert len(loaded) == expected
        assert len(np.unique(loaded.labels)) == len(task.labels)
