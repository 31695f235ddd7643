import pytest
import yaml

from fmn.errors import ParamsError
from fmn.params import EvaluateSettings, MergeSettings, Params, read_params


def params(tasks=("a", "b", "c"), **settings):
    return Params(models=[{"model": f"models/{task}", "task": task} for task in tasks], **settings)


def test_the_least_that_has_to_be_said(tmp_path):
    (tmp_path / "params.yaml").write_text("models: [{model: a, task: sst2}, {model: b, task: rte}]")
    found = read_params(tmp_path / "params.yaml")
    assert found.merge == MergeSettings(methods=("average", "mask-fisher"), sizes="all", dtype="same")
    assert found.evaluate == EvaluateSettings(split="validation", limit=None, max_length=128, batch_size=32)
    assert found.data == "nyu-mll/glue"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("all", ["ab", "ac", "bc", "abc"]),
        ([2], ["ab", "ac", "bc"]),
        ([3], ["abc"]),
        ([3, 1, 3], ["a", "b", "c", "abc"]),
    ],
)
def test_combinations_come_small_ones_first_and_once(sizes, expected):
    found = params(merge={"sizes": sizes}).combinations()
    assert ["".join(entry.task for entry in combination) for combination in found] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ("a",)}, "at least 2 items"),
        ({"tasks": ("a", "b", "a")}, "two models for task a; a zoo has one model a task"),
        ({"tasks": ("a", "x/a.yaml")}, "two models for task a"),
        ({"merge": {"sizes": [2, 4]}}, "sizes: merges of 4 models, but there are 3"),
        ({"merge": {"sizes": [0]}}, "greater than or equal to 1"),
        ({"merge": {"sizes": "some"}}, "Input should be 'all'"),
        ({"merge": {"methods": []}}, "at least 1 item"),
        ({"evaluate": {"limit": 0}}, "greater than or equal to 1"),
    ],
)
def test_zoos_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        params(**settings)


def test_a_complaint_about_models_is_not_drowned_in_others(tmp_path):
    content = {"models": [{"model": "a", "task": "x"}], "merge": {"sizes": [7]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError) as error:
        read_params(tmp_path / "params.yaml")
    assert str(error.value).endswith("params.yaml: models: Tuple should have at least 2 items after validation, not 1")
