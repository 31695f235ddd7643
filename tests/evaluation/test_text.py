"""Sentences that serve every task: read from where people have them, paired where tasks pair."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fmn.errors import DataError
from fmn.evaluation import Task, Text, get_task, load_split, read_text

LINES = ["One is here.", "", "  Two is there. ", "Three."]
READ = ("One is here.", "Two is there.", "Three.")


def test_a_file_a_table_a_list_and_a_dataset_hold_the_same_sentences(tmp_path, monkeypatch):
    import datasets

    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    table = pa.table({"number": range(4), "text": LINES})
    pq.write_table(table, tmp_path / "lines.parquet")
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda source, split: datasets.Dataset.from_dict({"number": range(4), "text": LINES}),
    )
    for source in (
        str(tmp_path / "lines.txt"),
        str(tmp_path / "lines.parquet"),
        LINES,
        "someone/text",
    ):
        assert read_text(source).sentences == READ


def test_tasks_of_two_texts_get_each_sentence_with_the_next():
    text = Text("three sentences", READ)
    single, pairs = (load_split(text, get_task(name), "train") for name in ("sst2", "rte"))
    assert single.texts == (list(READ),)
    assert pairs.texts == (list(READ[:2]), list(READ[1:]))
    assert single.labels.tolist() == [0, 0, 0]
    assert load_split(text, get_task("stsb"), "train").labels.dtype == np.float32
    assert pairs.digest() != single.digest()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([" ", ""], "there is no text"),
        ("nowhere.txt", "is not a file"),
        ("./folder/", "is not a file"),
        ("broken.txt", "cannot be read as text"),
        ("numbers.parquet", "no column that holds text"),
        ("broken.parquet", "not a readable Parquet file"),
    ],
)
def test_what_is_no_text_is_refused_in_a_line(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"number": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match=message) as caught:
        read_text(source)
    assert "\n" not in str(caught.value)


def test_too_little_text_and_a_task_that_writes_are_refused():
    alone = Text("one sentence", READ[:1])
    with pytest.raises(DataError, match="needs 2 for one example"):
        load_split(alone, get_task("rte"), "train")
    writes = Task(name="notes", completion="note", metrics=("perplexity",))
    with pytest.raises(DataError, match="writes text"):
        load_split(alone, writes, "train")
