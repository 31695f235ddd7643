import json
import re

import pytest
import yaml

from fmn.errors import ParamsError
from fmn.params import EvaluateSettings, MergeSettings, Params, RunnerSettings, read_params
from fmn.recipe import Parent


def params(tasks=("a", "b", "c"), **settings):
    models = [{"model": f"models/{task}", "task": task} for task in tasks]
    return Params(**{"models": models} | settings)


def test_the_least_that_has_to_be_said(tmp_path):
    (tmp_path / "params.yaml").write_text("models: [{model: a, task: sst2}, {model: b, task: rte}]")
    description = read_params(tmp_path / "params.yaml")
    assert description.merge == MergeSettings(
        methods=("average", "mask-fisher"),
        sizes="all",
        combinations=(),
        weights={},
        dtype="same",
        keep="none",
    )
    assert description.evaluate == EvaluateSettings(
        split="validation", limit=None, max_length=128, batch_size=32
    )
    assert (description.store, description.data, description.parent) == (
        ".fmn/store",
        "nyu-mll/glue",
        None,
    )
    assert description.runner == RunnerSettings(
        kind="threads",
        address=None,
        workers=None,
        devices="auto",
        batch="auto",
        timeout=3600,
        retries=2,
    )


def test_all_that_can_be_said(tmp_path):
    content = {
        "store": "s3://bucket/prefix",
        "data": "data",
        "parent": "models/parent",
        "models": [{"model": "a", "task": "sst2", "name": "one"}, {"model": "b", "task": "sst2"}],
        "merge": {"combinations": [["sst2", "one"]], "weights": {"one": 0.5}, "keep": "best"},
        "runner": {
            "kind": "dask",
            "workers": 2,
            "devices": ["cuda:0"],
            "batch": 50,
            "timeout": 1.5,
            "retries": 0,
        },
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    description = read_params(tmp_path / "params.yaml")
    assert (description.store, description.parent) == (
        "s3://bucket/prefix",
        Parent(model="models/parent"),
    )
    assert {name: (entry.model, entry.weight) for name, entry in description.entries().items()} == {
        "one": ("a", 0.5),
        "sst2": ("b", 1.0),
    }
    assert list(description.combinations()) == [("one", "sst2")]
    assert description.merge.keep == "best"
    assert (description.runner.devices, description.runner.batch, description.runner.retries) == (
        ("cuda:0",),
        50,
        0,
    )
    assert Params.model_validate_json(description.model_dump_json()) == description


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
    description = params(merge={"sizes": sizes})
    assert ["".join(combination) for combination in description.combinations()] == expected
    assert description.count() == len(expected)


def test_combinations_by_name_come_in_the_order_of_the_models_and_once():
    description = params(merge={"combinations": [["c", "b", "a"], ["c", "a"], ["b"], ["a", "c"]]})
    assert ["".join(combination) for combination in description.combinations()] == [
        "b",
        "ac",
        "abc",
    ]
    assert description.count() == 3


def test_many_are_counted_without_making_them():
    tasks = [f"t{number}" for number in range(28)]
    assert params(tasks, merge={"limit": 10**9}).count() == 2**28 - 29


@pytest.mark.parametrize(
    ("models", "merge", "line"),
    [
        (
            22,
            {},
            "merge: 4,194,281 sets of models by 2 methods are 8,388,562 merges; expected at most "
            "100,000: choose some, with 'sizes: [2, 22]' or combinations, or allow them with "
            "'limit: 8388562'",
        ),
        (3, {"limit": 7}, "merge: 4 sets of models by 2 methods are 8 merges"),
        (30, {"sizes": [15]}, "with 'fewer sizes' or combinations, or allow"),
        (300, {}, r"merge: more than 10\^89 sets .* with 'sizes: \[2, 300\]' or combinations$"),
    ],
)
def test_more_merges_than_meant_are_refused(models, merge, line, tmp_path):
    zoo = {"models": [{"model": "a", "task": f"t{n}"} for n in range(models)], "merge": merge}
    (tmp_path / "params.json").write_text(json.dumps(zoo))
    with pytest.raises(ParamsError, match=line if "\\" in line else re.escape(line)):
        read_params(tmp_path / "params.json")


def test_a_limit_allows_as_many():
    assert params(merge={"limit": 8}).count() == 4


@pytest.mark.parametrize(
    "name",
    ["recipe.yaml", "backbone", "CON", "nul.x", "a" * 101, "a" * 3000, "a.", "\ud800", "a\x1b"],
)
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="cannot name a directory") as error:
        params(tasks=("a", "b"), models=[{"model": "a", "task": "sst2", "name": name}] * 2)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 2_000


@pytest.mark.parametrize(
    "content",
    [
        {"store": "s3://KEY:S3CRET@bucket"},
        {"data": "https://KEY:S3CRET@host/data"},
        {"parent": "s3://KEY:S3CRET@bucket"},
        {"parent": {"model": "s3://KEY:SEC/S3CRET@bucket"}},
        {"runner": {"kind": "dask", "address": "tls://KEY:S3CRET@host:8786"}},
    ],
)
def test_passwords_in_addresses_are_refused_and_not_said(content):
    for whole in (content, {**content, "nonsense": content}):
        with pytest.raises(ValueError, match="expected an address without user and") as error:
            params(**whole)
        assert "S3CRET" not in str(error.value) and "***@" in str(error.value)


def test_a_method_is_a_name_or_has_parameters():
    methods = params(merge={"methods": ["average", {"method": "ties", "parameters": {}}]}).merge
    assert [method.method for method in methods.methods] == ["average", "ties"]
    with pytest.raises(ValueError, match=r"merge\.methods\.0\.name"):
        params(merge={"methods": [{"method": "ties", "name": "x"}]})


def test_every_model_of_a_zoo_has_a_task():
    with pytest.raises(ValueError, match="model b has no task; a zoo measures each"):
        Params(models=[{"model": "a", "task": "sst2"}, {"model": "b"}])


def test_a_weight_is_given_in_one_place():
    models = [{"model": "x", "task": "a", "weight": 2}, {"model": "y", "task": "b"}]
    description = Params(models=models, merge={"weights": {"b": 3}})
    assert {name: entry.weight for name, entry in description.entries().items()} == {"a": 2, "b": 3}
    with pytest.raises(
        ValueError,
        match=r"model a has a weight of its own and one in merge\.weights; leave one out",
    ):
        Params(models=models, merge={"weights": {"a": 3}})


def test_a_model_of_weight_zero_may_give_its_head_to_others():
    assert params(merge={"weights": {"a": 0}}).count() == 4
    assert params(merge={"weights": {"a": 0, "b": 0}, "sizes": [3]}).count() == 1
    assert (
        params(
            merge={"weights": {"a": 0, "b": 0}, "combinations": [["a", "c"], ["b", "c"]]}
        ).count()
        == 2
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("stor",), "unknown key 'stor'; did you mean 'store'"),
        (("parents",), "unknown key 'parents'; did you mean 'parent'"),
        (("runer",), "unknown key 'runer'; did you mean 'runner'"),
        (("merge", "weight"), "unknown key in merge 'weight'; did you mean 'weights'"),
        (("merge", "kep"), "unknown key in merge 'kep'; did you mean 'keep'"),
        (
            ("merge", "combination"),
            "unknown key in merge 'combination'; did you mean 'combinations'",
        ),
        (("runner", "adress"), "unknown key in runner 'adress'; did you mean 'address'"),
        (("runner", "worker"), "unknown key in runner 'worker'; did you mean 'workers'"),
        (("runner", "device"), "unknown key in runner 'device'; did you mean 'devices'"),
        (("runner", "time_out"), "unknown key in runner 'time_out'; did you mean 'timeout'"),
        (("runner", "retry"), "unknown key in runner 'retry'; did you mean 'retries'"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(path, message, tmp_path):
    section, *key = path
    content = {
        "models": [{"model": "a", "task": "x"}, {"model": "b", "task": "y"}],
        section: {key[0]: 1} if key else 1,
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError, match=message):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ("a",)}, "at least 2 items"),
        (
            {"tasks": ("a", "b", "a")},
            "two models are called a; give one of them a 'name' of its own",
        ),
        ({"tasks": ("a", "x/a.yaml")}, "two models are called a"),
        ({"merge": {"sizes": [2, 4]}}, "sizes: merges of 4 models, but there are 3"),
        ({"merge": {"sizes": [0]}}, "greater than or equal to 1"),
        ({"merge": {"sizes": "some"}}, "Input should be 'all'"),
        ({"merge": {"methods": []}}, "at least 1 item"),
        ({"evaluate": {"limit": 0}}, "greater than or equal to 1"),
        (
            {"merge": {"sizes": [2], "combinations": [["a", "b"]]}},
            "give sizes or combinations, not both",
        ),
        (
            {"merge": {"combinations": [["a", "bb"]]}},
            r"no model is called 'bb'; did you mean 'b'\? \(there are: a, b, c\)",
        ),
        (
            {"tasks": ("sst2", "rte"), "merge": {"weights": {"sts2": 1}}},
            "no model is called 'sts2'; did you mean 'sst2'",
        ),
        (
            {"merge": {"combinations": [["a", "a"]]}},
            r"combinations: \[a, a\]; expected different models",
        ),
        ({"merge": {"combinations": [[]]}}, r"combinations: \[\]; expected different models"),
        ({"merge": {"weights": {"a": "much"}}}, "valid number"),
        (
            {"merge": {"weights": {"a": 0, "c": 0}}},
            "every weight of the merge of a, c is 0; expected at least one above 0",
        ),
        ({"merge": {"sizes": [1], "weights": {"b": 0}}}, "every weight of the merge of b is 0"),
        (
            {"merge": {"combinations": [["a", "b"], ["c"]], "weights": {"c": 0}}},
            "every weight of the merge of c is 0",
        ),
        ({"merge": {"keep": "some"}}, "Input should be 'none', 'best' or 'all'"),
        ({"runner": {"kind": "ray"}}, "Input should be 'threads' or 'dask'"),
        ({"runner": {"workers": 2}}, "address and workers are for kind: dask"),
        ({"runner": {"address": "tcp://there:8786"}}, "address and workers are for kind: dask"),
        (
            {"runner": {"kind": "dask", "address": "tcp://there:8786", "workers": 2}},
            "has its workers already; leave out workers",
        ),
        ({"runner": {"kind": "dask", "workers": 0}}, "greater than or equal to 1"),
        ({"runner": {"devices": []}}, "at least 1 item"),
        ({"runner": {"devices": "cpu"}}, "Input should be 'auto'"),
        ({"runner": {"batch": 0}}, "greater than or equal to 1"),
        ({"runner": {"timeout": 0}}, "greater than 0"),
        ({"runner": {"retries": -1}}, "greater than or equal to 0"),
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
    assert str(error.value).endswith(
        "params.yaml: models: Tuple should have at least 2 items after validation, not 1"
    )


def test_two_models_of_one_task_have_names_of_their_own():
    models = [{"model": "x", "task": "a", "name": "first"}, {"model": "y", "task": "a"}]
    assert list(Params(models=models).combinations()) == [("first", "a")]
    for again in ("a", "first"):
        with pytest.raises(ValueError, match=f"two models are called {again}"):
            Params(models=[*models, {"model": "z", "task": "a", "name": again}])


def test_a_description_travels_as_json():
    for description in (
        params(),
        params(merge={"combinations": [["a", "b"]], "weights": {"a": 2}}),
    ):
        assert Params.model_validate_json(description.model_dump_json()) == description


def test_a_gpu_that_is_named_twice_is_refused():
    assert RunnerSettings(devices=("cpu", "cpu", "cuda:0")).devices == ("cpu", "cpu", "cuda:0")
    with pytest.raises(ValueError, match="cuda:0 twice; a GPU is given to one task at a time"):
        RunnerSettings(devices=("cuda:0", "cuda:1", "cuda:0"))


SECURE = {"tls_ca_file": "ca.pem", "tls_client_cert": "run.pem"}


@pytest.mark.parametrize(
    ("runner", "complaint"),
    [
        ({"address": "tcp://host:1", "security": SECURE}, "an address that begins with tls://"),
        ({"security": SECURE}, "an address that begins with tls://"),
        ({"address": "tls://host:1", "security": {**SECURE, "tls_key": "x"}}, "tls_key"),
        ({"address": "tls://host:1", "security": {"tls_ca_file": "ca.pem"}}, "tls_client_cert"),
    ],
)
def test_certificates_are_for_a_cluster_of_ones_own(tmp_path, runner, complaint):
    content = {"models": [{"model": "a", "task": "sst2"}, {"model": "b", "task": "rte"}]}
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({**content, "runner": {"kind": "dask", **runner}})
    )
    with pytest.raises(ParamsError, match=complaint):
        read_params(tmp_path / "params.yaml")


def test_a_key_that_is_pasted_for_its_path_is_refused_and_not_repeated(tmp_path):
    key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    runner = {"kind": "dask", "address": "tls://host:1", "security": {**SECURE}}
    runner["security"]["tls_client_key"] = key
    content = {"models": [{"model": "a", "task": "sst2"}, {"model": "b", "task": "rte"}]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**content, "runner": runner}))
    with pytest.raises(ParamsError, match="tls_client_key") as caught:
        read_params(tmp_path / "params.yaml")
    assert "c2VjcmV0" not in str(caught.value)
