"""What a run does, what it leaves, what Prefect shows of it, and what it refuses before it
starts."""

import json
import re
import subprocess
import sys
import time
from itertools import combinations

import psutil
import pytest

from tests.flows.conftest import command, ended, finish, free_port, kill, seen, until
from tests.store.s3 import READ_ONLY

NAMES = ("sst2", "rte", "mnli")
SETS = [names for size in (2, 3) for names in combinations(NAMES, size)]

ALWAYS = ("leaderboard", "report")
"""Tasks that read what there is; they are never hits."""


@pytest.fixture(scope="module")
def project(make_project):
    """A zoo in which two models are in the first runs, and the third joins."""
    return make_project(merge={"methods": ["average", "mask-fisher"]})


@pytest.fixture(scope="module")
def first(project):
    """The first run, what Prefect saw of it, and what the store held after it."""
    models = project.described["models"]
    project.described["models"] = models[:2]
    try:
        ran = project.run()
    finally:
        project.described["models"] = models
    return ran, seen(project, tasks=2 + 2 + 2 * 2 + 2), project.results()


@pytest.fixture(scope="module")
def grown(project, first):
    """The run after one model was added."""
    return project.run(), seen(project, tasks=3 + 3 + 8 * 2 + 2)


@pytest.fixture(scope="module")
def again(project, grown):
    """A run that finds everything."""
    before, logs = project.results(), sorted(project.store.glob("runs/v1/*"))
    assert len(logs) == 2
    ran = project.run()
    assert project.results() == before
    assert sorted(project.store.glob("runs/v1/*")) == logs  # a run that did nothing is no news
    return ran, seen(project, tasks=3 + 3 + 8 * 2 + 2)


def test_the_first_run_computes_everything_and_says_so_in_json_and_in_words(first):
    ran, _, results = first
    nothing = {"fisher": 0, "merge": 0, "evaluate": 0}
    assert ran.code == 0, ran.err
    seconds = ran.summary.pop("seconds")
    assert ran.summary == {
        "computed": {"fisher": 2, "merge": 2, "evaluate": 4},
        "cached": nothing,
        "skipped": nothing,
        "failed": [],
    }
    assert seconds.keys() == {"fisher", "merge", "evaluate", "wall"}
    assert all(value > 0 for value in seconds.values())
    assert ran.last_line.startswith(
        "computed 2 Fishers, 2 merges, 4 evaluations, took nothing from the store, in "
    )
    assert sum(path.startswith("records/v2/") for path in results) == 8


def test_one_more_model_computes_one_fisher_and_the_combinations_it_is_in(grown, first, project):
    ran, _ = grown
    assert ran.code == 0, ran.err
    assert ran.counts("computed") == {"fisher": 1, "merge": 6, "evaluate": 7}
    assert ran.counts("cached") == {"fisher": 2, "merge": 2, "evaluate": 4}
    assert first[2].items() <= project.results().items()


def test_a_second_run_finds_everything_and_changes_nothing(again):
    ran, shown = again
    assert ran.code == 0, ran.err
    assert ran.counts("computed") == {}
    assert ran.counts("cached") == {"fisher": 3, "merge": 8, "evaluate": 11}
    assert ran.last_line.startswith(
        "computed nothing, took 3 Fishers, 8 merges, 11 evaluations from the store, in "
    )
    assert {state for name, state in shown.states().items() if name not in ALWAYS} == {"Cached"}
    assert shown.flow_run.state_name == "Completed"


def test_what_was_in_the_store_ends_in_a_state_named_cached_and_the_rest_completed(grown):
    states = grown[1].states()
    assert len(states) == 3 + 3 + 8 * 2 + 2
    for name, state in states.items():
        is_new = name in ALWAYS or "mnli" in name
        assert state == ("Completed" if is_new else "Cached"), name


def test_prefect_shows_the_true_graph(grown):
    shown = grown[1]
    fishers = {name: f"mask Fisher of {name}" for name in NAMES}
    for name in fishers.values():
        assert shown.parents(name) == set()
    for combination in SETS:
        models = " + ".join(combination)
        assert shown.parents(f"{models} by mask-fisher") == {fishers[name] for name in combination}
        assert shown.parents(f"{models} by average") == set()
        for method in ("average", "mask-fisher"):
            assert shown.parents(f"evaluation of {models} by {method}") == {f"{models} by {method}"}
    assert shown.parents("leaderboard") == shown.tasks.keys() - set(ALWAYS)
    assert shown.parents("report") == {"leaderboard"}


def test_what_passes_between_tasks_is_small(make_project):
    from tests.flows.patches import note_what_tasks_get

    project = make_project(merge={"methods": ["mask-fisher"], "sizes": [2]})
    ran = project.run(patch=note_what_tasks_get)
    assert ran.code == 0, ran.err
    passed = [json.loads(line) for line in (project.folder / "passed.txt").read_text().splitlines()]
    assert len(passed) == 3 + 3 + 3 * 2
    biggest = (
        len((project.folder / "params.yaml").read_text()) + 2000
    )  # the description as JSON, its defaults included
    for entry in passed:
        assert entry["arguments"] < biggest, entry
        assert entry["returned"] < 500, entry


def test_artifacts_show_progress_scores_and_where_the_results_are(grown, project):
    artifacts = grown[1].artifacts
    keys = ("progress", "leaderboard", "summary", "store", "report")
    assert artifacts.keys() == {f"merge-zoo-{key}" for key in keys}
    assert float(artifacts["merge-zoo-progress"].data) == 100
    rows = json.loads(artifacts["merge-zoo-leaderboard"].data)
    assert {row["models"] for row in rows} == {" + ".join(combination) for combination in SETS}
    assert len(rows) == 8
    for row in rows:
        assert row["interval"].startswith("[")
        assert all(row[f"{name}, interval"].startswith("[") for name in row["models"].split(" + "))
    assert {row["from the best"] for row in rows} > {"best"}
    summary = artifacts["merge-zoo-summary"].data
    assert "| method | mean normalised score, % | interval | from the best |" in summary
    assert "computed 1 Fisher, 6 merges, 7 evaluations" in artifacts["merge-zoo-summary"].data
    assert f"file://{project.store}" in artifacts["merge-zoo-store"].data
    assert f"file://{project.store}/report/index.html" in artifacts["merge-zoo-report"].data


def test_the_last_task_writes_the_report_of_all_merges_and_of_this_very_run(grown, project):
    page = (project.store / "report" / "index.html").read_text()
    keys = [record["key"] for record in project.records("merge")]
    assert len(keys) == 8
    assert all(key in page for key in keys)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert {"fisher": 1, "merge": 6, "evaluate": 7} in [run["computed"] for run in data["runs"]]


def test_a_mistake_in_the_params_is_said_in_a_line_before_a_server_is_started(project):
    (project.folder / "wrong.yaml").write_text(
        "models: [{model: a, task: sst2, wieght: 2}, {model: b, task: rte}]\n"
    )
    for arguments in (["wrong.yaml"], ["absent.yaml"]):
        ran = finish(
            command(project.folder, *arguments, PREFECT_HOME=str(project.folder / "never"))
        )
        assert arguments[0] in ran.line()
    assert not list((project.folder / "never").glob("*"))


def test_a_store_that_is_a_file_is_refused_in_a_line(make_project):
    project = make_project()
    (project.folder / "store").write_text("")
    assert "is a file" in project.run().line()


def test_a_store_that_cannot_be_reached_or_written_to_is_refused_in_a_line(make_project, s3_server):
    bucket = s3_server.bucket("zoo")
    project = make_project(store=f"{bucket.address}/store")
    bucket.control(READ_ONLY)
    assert "can only be read" in project.run(**bucket.environment).line()
    assert bucket.requests()["put"] < 20  # nothing was computed and then thrown away
    nobody = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "FMN_STORE_PATIENCE": "0"}
    assert f"{bucket.address}/store" in project.run(**{**bucket.environment, **nobody}).line()


def servers(folder):
    """Return the embedded servers whose state is in a folder."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME") == str(folder) and "create_app" in " ".join(
                process.cmdline()
            ):
                pids.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return pids


@pytest.mark.slow
def test_without_a_server_a_run_has_its_own_beside_that_of_another(make_project):
    project = make_project(merge={"methods": ["average"], "sizes": [2]})
    project.write()
    home = project.folder / "home"
    home.mkdir()
    state = project.folder / ".fmn" / "prefect"

    looks_like_one = [sys.executable, "-c", "input()", "fmn.flows.embedded:create_app"]
    with ended(subprocess.Popen(looks_like_one, stdin=subprocess.PIPE)) as anothers:
        run = command(project.folder, HOME=str(home))
        most = 0
        while run.poll() is None:
            most = max(most, len(servers(state)))
            time.sleep(0.5)
        ran = finish(run)
        assert anothers.poll() is None
    assert ran.code == 0, ran.err
    assert most == 1
    assert servers(state) == []
    assert list(home.rglob("*")) == []
    assert (state / "prefect.db").is_file()
    assert sorted(path.name for path in project.folder.iterdir()) == [
        ".fmn",
        "cache",
        "home",
        "params.yaml",
        "store",
    ]
    assert ran.err == ""


@pytest.mark.slow
def test_a_server_whose_run_is_killed_before_it_answers_ends_too(make_project):
    project = make_project(merge={"methods": ["average"], "sizes": [2]})
    project.write()
    home = project.folder / "home"
    home.mkdir()
    state = project.folder / ".fmn" / "prefect"
    killed = command(project.folder, HOME=str(home))
    until(lambda: servers(state), "a server", every=0.1)
    kill(killed.pid)
    until(lambda: not servers(state), "its end", every=0.1)
    killed.communicate(timeout=60)
