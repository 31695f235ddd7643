"""The commands from a server's start to a scheduled run that is finished, as the README gives
them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import (
    PATIENCE,
    REPOSITORY,
    answers,
    clean_environment,
    copy_into,
    ended,
    free_port,
    until,
)

START = "prefect server start"
COMMANDS = [
    "prefect work-pool create gpu --type process",
    "prefect deploy --all",
    "prefect deployment run merge-zoo/nightly",
    "prefect worker start --pool gpu --run-once",
]


class Shell:
    """A person's shell in a checkout."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._environment = clean_environment(
            PREFECT_HOME=str(folder / "prefect"),
            PREFECT_SERVER_API_PORT=str(self.port),
            PREFECT_API_URL=f"http://127.0.0.1:{self.port}/api",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            DO_NOT_TRACK="1",
            FMN_CACHE=str(folder / "cache"),
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            PWD=str(folder),
        )

    def start(self, command: str, log: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command.split(),
            cwd=self._folder,
            env=self._environment,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, command: str) -> str:
        """Run a command to its end; return what it printed."""
        log = self._folder / "command.log"
        process = self.start(command, log)
        with ended(process):
            assert process.wait(PATIENCE) == 0, (command, log.read_text())
        return log.read_text()


@pytest.mark.slow
def test_the_commands_of_the_readme_end_with_a_finished_run(world, prefect_database, tmp_path):
    copy_into(tmp_path / "prefect", prefect_database)
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    shutil.copy(REPOSITORY / "prefect.yaml", tmp_path)
    world.params(tmp_path / "params.yaml", merge={"methods": ["average"], "sizes": [2]})
    shell = Shell(tmp_path)
    with ended(shell.start(START, tmp_path / "server.log")):
        until(lambda: answers(f"http://127.0.0.1:{shell.port}/api/health"), "Prefect's server")
        outputs = {command: shell(command) for command in COMMANDS}
        shell(f"{sys.executable} -m fmn flow deploy --name on-demand")
        deployments = json.loads(shell("prefect deployment ls -o json"))
        (run,) = json.loads(
            shell("prefect flow-run ls --flow-name merge-zoo --state COMPLETED -o json")
        )
    entry = {deployment["name"]: deployment["entrypoint"] for deployment in deployments}
    assert entry == dict.fromkeys(("nightly", "on-demand"), "flows/merge_zoo.py:merge_zoo")
    assert run["state_type"] == "COMPLETED", (run, outputs)
    assert len(list((tmp_path / "store").glob("records/v2/merge/*/*.json"))) == 3
    assert len(list((tmp_path / "store").glob("records/v2/evaluate/*/*.json"))) == 6
