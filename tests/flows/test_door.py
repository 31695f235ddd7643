"""The commands ``fmn flow …``, and the paths by which deployments find the flow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fmn.flows.merge_zoo import merge_zoo
from tests.flows.conftest import REPOSITORY, Ran, clean_environment, finish


def fmn(folder: Path, *arguments: str, **environment: str) -> Ran:
    return finish(
        subprocess.Popen(
            [sys.executable, "-m", "fmn", *arguments],
            cwd=folder,
            env=clean_environment(FMN_CACHE=str(folder / "cache"), **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


def test_the_commands_run_a_zoo_and_its_exit_code_tells_how_it_went(world, tmp_path):
    world.params(tmp_path / "params.yaml", merge={"methods": ["average"], "sizes": [2]})
    ran = fmn(tmp_path, "flow", "run", "--summary", "summary.json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.last_line.startswith("computed 3 merges, 6 evaluations, took nothing from the store")
    assert (tmp_path / "summary.json").is_file()


def test_a_mistake_in_the_params_is_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text("modles: []\n")
    ran = fmn(tmp_path, "flow", "run")
    assert ran.line().startswith("fmn: params.yaml: ")
    traced = fmn(tmp_path, "--traceback", "flow", "run")
    assert "Traceback" in traced.err


def test_help_neither_imports_prefect_nor_leaves_anything_behind(tmp_path):
    code = (
        "import sys, fmn.__main__ as program\n"
        "program.main(['flow', 'run', '--help'], standalone_mode=False)\n"
        "assert 'fmn.cli' in sys.modules\n"
        "assert not {'prefect', 'fmn.flows', 'dask'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "flow run [OPTIONS] [PARAMS]" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_deploying_asks_for_a_file_and_for_a_server(tmp_path):
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    assert "prefect.yaml is not there" in fmn(tmp_path, "flow", "deploy", **home).line()
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    assert "prefect server start" in fmn(tmp_path, "flow", "deploy", **home).line()


def test_the_path_in_prefect_yaml_is_the_flow_itself(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import flows.merge_zoo

    assert flows.merge_zoo.merge_zoo is merge_zoo
