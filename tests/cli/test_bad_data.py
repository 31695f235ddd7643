"""Tasks and data that do not fit a model."""

import shutil

import pytest

from tests.cli.conftest import EVERY
from tests.steps.world import columns_of, write_split


@pytest.mark.parametrize("command", EVERY)
def test_a_task_that_is_unknown(command, world, commands, refuse, nothing_runs):
    refuse(
        "unknown task 'sst'; did you mean 'sst2'",
        *commands(world.model("sst2"), task="sst")[command],
    )


@pytest.mark.parametrize("command", EVERY)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"sentense": ["a cat"], "label": [0]},
            "has no column 'sentence'; did you mean 'sentense'",
        ),
        (
            {"sentence": ["a cat", "a dog"], "label": [0, 7]},
            "has label 7, outside task sst2's 0 negative, 1 positive",
        ),
        ({"sentence": ["a cat", "a dog"], "label": [0, -1]}, "has no label"),
        ({"sentence": [1, 2], "label": [0, 1]}, "column 'sentence' holds int64, expected text"),
        ({"sentence": [], "label": []}, "has no rows"),
    ],
)
def test_data_that_does_not_fit(
    command, columns, message, world, commands, refuse, tmp_path, nothing_runs
):
    for task in ("rte", "mnli"):
        shutil.copytree(f"{world.data}/{task}", tmp_path / "data" / task)
    for split in ("train", "validation"):
        write_split(tmp_path / "data", "sst2", split, columns)
    refuse(message, *commands(world.model("sst2"), data=str(tmp_path / "data"))[command])


def test_data_that_is_not_there(world, commands, refuse, tmp_path, nothing_runs):
    for command in EVERY:
        refuse(
            "data source '.*nowhere' is not a directory",
            *commands(world.model("sst2"), data=str(tmp_path / "nowhere"))[command],
        )
    (tmp_path / "data" / "sts2").mkdir(parents=True)
    refuse(
        r"no directory .*sst2; did you mean 'sts2'",
        *commands(world.model("sst2"), data=str(tmp_path / "data"))["fisher"],
    )
    refuse(r"no file .*/tst\.parquet", *commands(world.model("sst2"))["evaluate"], "--split", "tst")
    (tmp_path / "data" / "sst2").mkdir()
    (tmp_path / "data" / "sst2" / "train.parquet").write_bytes(b"PAR1 and no more")
    refuse(
        r"train\.parquet is not a readable Parquet file",
        *commands(world.model("sst2"), data=str(tmp_path / "data"))["fisher"],
    )


def test_texts_that_are_too_long_for_the_model(world, commands, refuse, tmp_path, nothing_runs):
    columns = columns_of("sst2", 4, seed=0)
    for split in ("train", "validation"):
        write_split(tmp_path / "data", "sst2", split, columns | {"sentence": ["the " * 60] * 4})
    for command in ("fisher", "evaluate"):
        arguments = commands(world.model("sst2"), data=str(tmp_path / "data"))[command]
        refuse(
            "has an example of 62 tokens, but the model reads 40; set the maximal length to 40 or "
            "less",
            *arguments,
        )
