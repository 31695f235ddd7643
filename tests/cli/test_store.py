import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fmn.checkpoint import read
from fmn.steps.describe import how_to_derive
from fmn.store import open_store
from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.conftest import flip, object_of


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """The params of a zoo that was run; to stay as it is."""
    folder = tmp_path_factory.mktemp("ran")
    params = world.params(
        folder / "params.yaml",
        merge={"sizes": [2], "keep": "all", "methods": ["average", "mask-fisher"]},
    )
    succeeded(fmn("run", params))
    return params


@pytest.fixture
def store(ran, tmp_path, monkeypatch):
    """A copy of its store."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ran.parent / "store", tmp_path / "store"))


def records(store, kind):
    opened = open_store(store)
    return sorted(opened.find(kind, opened.keys(kind)).values(), key=lambda record: record.key)


def fisher_object(store):
    record = records(store, "fisher")[0]
    return record, object_of(open_store(store), record.outputs["fisher"].md5)


def test_ls_says_what_is_there(store, world):
    *lines, total = succeeded(fmn("store", "ls", store)).stdout.splitlines()
    assert total == "9 evaluate, 3 fisher, 6 merge, 6 publish"
    assert len(lines) == 24
    (fisher,) = (line for line in lines if f"mask Fisher of {'sst2'}" in line)
    assert fisher.split()[0] == "fisher"
    assert fisher.split()[1] in {record.key[:12] for record in records(store, "fisher")}
    assert sum("rte + sst2 by average" in line for line in lines) == 3  # merge, evaluation, model
    (evaluation,) = (
        line for line in lines if line.startswith("evaluate") and "rte + sst2 by average" in line
    )
    scores = next(
        r.value["scores"]
        for r in records(store, "evaluate")
        if set(r.value["scores"]) == {"rte", "sst2"}
    )
    assert set(scores) == {"rte", "sst2"}
    assert "rte " in evaluation.split("average: ")[1]
    only = succeeded(fmn("store", "ls", store, "--kind", "fisher")).stdout.splitlines()
    assert only[-1] == "3 fisher"
    assert len(only) == 4


def test_ls_as_json_is_the_records(store):
    lines = succeeded(fmn("store", "ls", store, "--kind", "merge", "--json")).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    assert sorted(entries, key=lambda record: record["key"]) == [
        record.model_dump() for record in records(store, "merge")
    ]


def test_the_store_is_found_by_argument_environment_or_params(ran, store, tmp_path, monkeypatch):
    total = "3 fisher"
    for arguments, environment in (((store,), ""), ((), str(store)), (("--params", ran), "")):
        monkeypatch.setenv("FMN_STORE", environment)
        assert (
            succeeded(fmn("store", "ls", "--kind", "fisher", *arguments)).stdout.splitlines()[-1]
            == total
        )
    assert succeeded(fmn("store", "ls", tmp_path / "new")).stdout == "nothing is stored yet\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "dvc-remote"])
def test_no_store_named(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(
        fmn("store", command),
        r"which store\? There is no params\.yaml: name a directory or s3://bucket/prefix",
    )


@pytest.mark.parametrize("command", ["ls", "verify", "gc"])
def test_places_that_are_no_store(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    refused(
        fmn("store", command, tmp_path / "file"),
        r"file is a file; expected a directory or s3://bucket/prefix",
    )
    refused(
        fmn("store", command, "gs://bucket/prefix"),
        r"store 'gs://bucket/prefix': expected a directory or s3://bucket/prefix",
    )


def test_verify(store):
    assert succeeded(fmn("store", "verify", store)).stdout == f"{store}: every record is whole\n"
    record, file = fisher_object(store)
    flip(file)
    assert (
        succeeded(fmn("store", "verify", store, "--quick")).stdout
        == f"{store}: every record is whole\n"
    )
    result = fmn("store", "verify", store)
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith(
        f"{record.path}: object {record.outputs['fisher'].md5} is corrupt; a run whose zoo has"
    )
    model, task = record.names["model"], record.names["task"]
    assert (
        f"fmn fisher {model} --task {task} --data {record.names['data']} --kind mask --samples 16"
        in line
    )
    assert result.stderr == f"1 of the records of {store} are not whole\n"
    assert not file.exists()
    assert "is missing" in fmn("store", "verify", store, "--quick").stdout


def test_the_command_that_computes_a_fisher_again_runs(store, tmp_path):
    arguments = shlex.split(how_to_derive(fisher_object(store)[0]).partition("so does: ")[2])[1:-4]
    place = ("--store", tmp_path / "other", "--out", tmp_path / "fisher.safetensors")
    more = ("--replacement", "--nodes", "layers", "--nodes", "value-heads")
    succeeded(fmn(*arguments, *more, *place))
    (record,) = open_store(tmp_path / "other").all("fisher").values()
    options = shlex.split(how_to_derive(record).partition("so does: ")[2])[1:-4]
    assert "--replacement" in options
    assert (
        "from the store"
        in succeeded(fmn(*options, *place[:2], "--out", tmp_path / "again.safetensors")).stdout
    )


def test_verify_says_how_a_model_that_is_gone_is_had_again(store):
    record = records(store, "publish")[0]
    flip(object_of(open_store(store), record.outputs["model"].md5), 5)
    result = fmn("store", "verify", store)
    assert result.exit_code == 1
    names = " + ".join(record.names["models"])
    assert (
        f"any run that keeps {names} by {record.names['method']} derives it again from its models "
        "and Fishers" in result.stdout
    )


def test_verify_names_a_damaged_record(store):
    record = records(store, "evaluate")[0]
    (store / record.path).write_text("{")
    result = fmn("store", "verify", store)
    assert (result.exit_code, result.stdout) == (
        1,
        f"{record.path}: the record is damaged; run the flow again, it computes what the record "
        "was about\n",
    )


def test_gc_drops_what_nobody_needs(store):
    opened = open_store(store)
    dropped = records(store, "publish")[0]
    opened.drop(dropped.address)
    before = set(opened.objects.all())
    output = succeeded(fmn("store", "gc", store, "--dry-run")).stdout  # younger than a day
    assert output.startswith("0 objects (0.0 MB) would be dropped")
    *lines, total = succeeded(
        fmn("store", "gc", store, "--grace", 0, "--dry-run")
    ).stdout.splitlines()
    assert set(open_store(store).objects.all()) == before
    named = {line.split()[0]: int(line.split()[1]) for line in lines}
    assert set(named) < before
    size = f"{sum(named.values()) / 1e6:,.1f} MB"
    kept = len(before) - len(named)
    rest = f"{kept} kept (0 for a DVC revision alone, 0 because they are younger than 0 hours)"
    assert total == f"{len(named)} objects ({size}) would be dropped, {rest}"
    assert (
        succeeded(fmn("store", "gc", store, "--grace", 0)).stdout
        == f"{len(named)} objects ({size}) dropped, {rest}\n"
    )
    assert set(open_store(store).objects.all()) == before - set(named)
    succeeded(fmn("store", "verify", store))


def test_gc_keeps_what_a_repository_names(store, tmp_path):
    opened = open_store(store)
    record, _ = fisher_object(store)
    opened.drop(record.address)
    md5 = record.outputs["fisher"].md5
    repository = tmp_path / "repository"
    repository.mkdir()
    subprocess.run(["git", "init", "-q", repository], check=True)
    (repository / "f.dvc").write_text(f"outs:\n- md5: {md5}\n  path: f\n")
    output = succeeded(fmn("store", "gc", store, "--grace", 0, "--repository", repository)).stdout
    assert "(1 for a DVC revision alone" in output
    assert md5 in open_store(store).objects.all()
    (tmp_path / "bare").mkdir()
    refused(
        fmn("store", "gc", store, "--repository", tmp_path / "bare"),
        "bare: git rev-list failed .*; name a Git repository",
    )


def test_dvc_remote(store, tmp_path):
    lines = succeeded(fmn("store", "dvc-remote", store)).stdout.splitlines()
    assert lines == ["dvc config core.remote fmn", f"dvc config remote.fmn.url {store}"]
    refused(
        fmn("store", "dvc-remote", store, "--write"),
        "no DVC repository in .*; run 'dvc init' first",
    )
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("")
    written = succeeded(fmn("store", "dvc-remote", store, "--write", "--name", "team")).stdout
    assert written == f".dvc/config: 'team' is the default remote, {store}\n"
    config = (tmp_path / ".dvc" / "config").read_text()
    assert "remote = team" in config
    assert f"url = {store}" in config


def test_fisher_takes_from_a_store_and_keeps(world, tmp_path, monkeypatch):
    arguments = (
        "fisher",
        world.model("sst2"),
        "--task",
        "sst2",
        "--data",
        world.data,
        "--samples",
        16,
        "--store",
        tmp_path / "store",
    )
    first = succeeded(fmn(*arguments, "--out", tmp_path / "first"))
    assert " over 16 sst2 examples (" in first.stdout
    monkeypatch.setattr(
        "fmn.models.load_model", lambda path: pytest.fail("computed what is in the store")
    )
    again = succeeded(fmn(*arguments, "--out", tmp_path / "again"))
    assert (
        f"{tmp_path / 'again'}: mask Fisher of {world.model('sst2')} from the store ("
        in again.stdout
    )
    one, two = read(tmp_path / "first"), read(tmp_path / "again")
    assert one[1] == two[1]
    assert {name: tensor.tolist() for name, tensor in one[0].items()} == {
        name: t.tolist() for name, t in two[0].items()
    }


def test_merge_keeps_its_fishers_and_a_zoo_takes_them(world, tmp_path):
    recipe = world.recipe(tmp_path / "recipe.yaml")
    succeeded(fmn("merge", recipe, "--store", tmp_path / "store", "--out", tmp_path / "merged"))
    assert succeeded(fmn("store", "ls", tmp_path / "store")).stdout.splitlines()[-1] == "2 fisher"
    plan = json.loads(
        succeeded(fmn("plan", world.params(tmp_path / "params.yaml"), "--json")).stdout
    )
    assert (plan["steps"]["fisher"]["cached"], plan["steps"]["fisher"]["to_compute"]) == (2, 1)


def test_a_store_that_is_none_is_said_before_anything_is_computed(world, tmp_path, nothing_runs):
    (tmp_path / "file").write_text("")
    arguments = (
        "fisher",
        world.model("sst2"),
        "--task",
        "sst2",
        "--data",
        world.data,
        "--out",
        tmp_path / "out",
    )
    for store, message in (
        (tmp_path / "file", "is a file"),
        ("gs://x/y", "expected a directory or s3://"),
    ):
        refused(fmn(*arguments, "--store", store), message)
        refused(
            fmn(
                "merge",
                world.recipe(tmp_path / "r.yaml"),
                "--store",
                store,
                "--out",
                tmp_path / "out",
            ),
            message,
        )
    assert not (tmp_path / "out").exists()
