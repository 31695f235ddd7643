"""What the tests of the flows share: a real Prefect server, the small zoo, and runs in processes of
their own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun, TaskRunResult
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.forks import forking
from tests.once import Once
from tests.steps.world import LABELS, World

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds within which whatever is waited for has to come, on a machine that has much else to
do."""

SUMMARY = "summary.json"
"""Of a run, in its project's folder."""

Patch = Callable[[], None]


def until(condition: Callable[[], Any], what: str, every: float = 0.1) -> Any:
    """Wait until something is true; return it."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(every)
    return value


def copy_into(folder: Path, file: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    return False


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """A process that is ended, gently at first, when the context ends."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clean_environment(**more: str) -> dict[str, str]:
    """Return this environment without anything that tells Prefect of a server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "FMN_"))
    }
    return {
        **kept,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        **more,
    }


@dataclass(frozen=True)
class Ran:
    """A run that ended.

    Attributes:
        code: exit code; -9 if it was killed.
        out: standard output.
        err: standard error.
        summary: what --summary wrote, if anything.
    """

    code: int
    out: str
    err: str
    summary: dict[str, Any]

    @property
    def last_line(self) -> str:
        return self.out.strip().splitlines()[-1]

    def counts(self, what: str) -> dict[str, int]:
        """Return a part of the summary, without what is zero."""
        return {kind: count for kind, count in self.summary[what].items() if count}

    def line(self) -> str:
        """Check that the run was refused in one line; return it."""
        assert self.code == 1, (self.code, self.out, self.err)
        lines = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.out + self.err
        return lines[0]


class Running:
    """A run in a process of its own, forked from one that has imported everything: it starts at
    once."""

    def __init__(
        self,
        context: ForkServerContext,
        folder: Path,
        arguments: Sequence[str],
        patch: Patch | None,
        env: Any,
        *,
        flow: bool,
    ) -> None:
        self._files = [folder / f"{name}.txt" for name in ("out", "err")]
        self._summary = folder / SUMMARY
        self._summary.unlink(missing_ok=True)
        program = ["flow", "run", "--summary", str(self._summary)] if flow else ["run"]
        arguments = [*program, *arguments]
        self.process = context.Process(
            target=_run, args=(folder, arguments, self._files, patch, env)
        )
        self.process.start()

    def kill(self, *, group: bool = False) -> None:
        """Kill its process alone, or all of its group."""
        if group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    def end(self) -> Ran:
        """Wait for it."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"it did not end\n{self._files[1].read_text()}"
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        summary = json.loads(self._summary.read_text()) if self._summary.exists() else {}
        return Ran(self.process.exitcode, out, err, summary)


def _run(
    folder: Path,
    arguments: Sequence[str],
    files: Sequence[Path],
    patch: Patch | None,
    env: Mapping[str, str],
) -> None:
    with suppress(PermissionError):  # it leads a group already
        os.setsid()
    os.chdir(folder)
    os.environ.update(env)
    tempfile.tempdir = None
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    from fmn.__main__ import main

    torch.set_num_threads(
        1
        # as the workers of a cluster have: the last bits of a Fisher depend on it, and stores are
        # compared
    )
    if patch:
        patch()
    try:
        main(arguments, prog_name="fmn")
    finally:
        sys.stdout.flush()
        if "coverage" in sys.modules:  # it complains there that it was begun in another process
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        atexit._run_exitfuncs()  # as at the end of any program, which a forked process is not


@dataclass
class Project:
    """A directory with a params.yaml, in which the flow is run.

    Attributes:
        folder: of all of it.
        world: the models and their data.
        api: of Prefect's server.
        context: starts processes.
        described: what params.yaml says.
    """

    folder: Path
    world: World
    api: str
    context: ForkServerContext
    described: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def summary(self) -> Path:
        """Where its runs write what they did."""
        return self.folder / SUMMARY

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "FMN_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **more,
        }

    def write(self) -> Path:
        return self.world.params(self.folder / "params.yaml", **self.described)

    def start(
        self, *arguments: str, patch: Patch | None = None, flow: bool = True, **environment: str
    ) -> Running:
        """Start a run: of the flow, or ``fmn run``, which has neither server nor summary."""
        self.write()
        env = self.environment(**environment)
        return Running(self.context, self.folder, arguments, patch, env, flow=flow)

    def run(self, *arguments: str, **more: Any) -> Ran:
        """Run to the end."""
        return self.start(*arguments, **more).end()

    def records(self, kind: str = "*") -> list[dict[str, Any]]:
        """Return the records of the store."""
        return [
            json.loads(path.read_text())
            for path in sorted(self.store.glob(f"records/v2/{kind}/*/*.json"))
        ]

    def count(self, kind: str = "*") -> int:
        return len(list(self.store.glob(f"records/v2/{kind}/*/*.json")))

    def devices(self) -> Counter[str]:
        """Return how many results were computed on each device; merging is done on no device but
        the CPU."""
        return Counter(
            record["made"]["device"] for record in self.records() if record["kind"] != "merge"
        )

    def results(self) -> dict[str, Any]:
        """Return every object and every record, but for when and where it was made.

        Hidden files are of writers that were killed; no reader looks at them.
        """
        contents = {
            path.relative_to(self.store).as_posix(): path.read_bytes()
            for folder in ("files", "records")
            for path in (self.store / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        records = {
            path: json.loads(content)
            for path, content in contents.items()
            if path.startswith("records/v2/")
        }
        for record in records.values():
            del record["digest"], record["made"]
        return contents | records


@pytest.fixture(scope="session")
def server(once: Once, prefect_database: Path) -> Iterator[str]:
    """The address of the API of a server that the run's tests share; this process uses it, too."""
    port = free_port()  # where it is started if it is not there yet
    api = f"http://127.0.0.1:{port}/api"
    home = once.directory("prefect-home", lambda home: copy_into(home, prefect_database))
    environment = clean_environment(
        PREFECT_HOME=str(home),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_API_PORT=str(port),
        DO_NOT_TRACK="1",
    )
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    api = once.server(
        "prefect",
        command,
        lambda printed: api if answers(f"{api}/health") else None,
        env=environment,
    )
    copy_into(Path(os.environ["PREFECT_HOME"]), prefect_database)  # for runs with their own server
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", api)
        patch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        with temporary_settings({PREFECT_API_URL: api}):  # this process's settings were read before
            yield api


@pytest.fixture(scope="session")
def processes(server: str) -> ForkServerContext:
    """Where runs are forked from."""
    return forking(
        "fmn.__main__",
        "fmn.flows.merge_zoo",
        "fmn.fisher",
        "dvc_data.hashfile.db",
        "fastapi",
        "prefect.flow_engine",
        "prefect.task_engine",
        "transformers.models.bert.modeling_bert",
        "tests.flows.conftest",
    )


@pytest.fixture(scope="session")
def process_environment(server: str) -> dict[str, str]:
    """The environment of processes that work for a run."""
    return clean_environment(PREFECT_API_URL=server, PREFECT_HOME=os.environ["PREFECT_HOME"])


MakeProject = Callable[..., Project]


@pytest.fixture(scope="module")
def make_project(
    world: World,
    server: str,
    processes: ForkServerContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeProject:
    """Make a project of the small world, or with ``own`` of a copy, which it may change."""

    def made(*, own: bool = False, **described: Any) -> Project:
        folder = tmp_path_factory.mktemp("project")
        here = World(shutil.copytree(world.root, folder / "world")) if own else world
        entries = [{"model": str(here.model(task)), "task": task} for task in LABELS]
        return Project(folder, here, server, processes, {"models": entries, **described})

    return made


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m flows.merge_zoo`` as a person does, where nothing tells of a server."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.merge_zoo", *arguments],
        cwd=folder,
        env=clean_environment(FMN_CACHE=str(folder / "cache"), **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err, {})


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Seen:
    """What Prefect's server knows of a flow run.

    Attributes:
        flow_run: the run.
        tasks: its task runs by name.
        artifacts: by their keys.
    """

    flow_run: FlowRun
    tasks: dict[str, TaskRun]
    artifacts: dict[str, Artifact]

    def states(self) -> dict[str, str]:
        """Return the name of the state of each task run."""
        return {name: task.state_name or "" for name, task in self.tasks.items()}

    def parents(self, name: str) -> set[str]:
        """Return the names of the task runs that another waited for."""
        names = {task.id: task.name for task in self.tasks.values()}
        inputs = self.tasks[name].task_inputs.values()
        return {
            names[run.id] for several in inputs for run in several if isinstance(run, TaskRunResult)
        }


def seen(project: Project, tasks: int) -> Seen:
    """Return the project's last flow run and its task runs, which reach the server a little after
    they ended."""
    with get_client(sync_client=True) as client:
        latest = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)
        flow_run = next(run for run in latest if run.parameters["summary"] == str(project.summary))
        which = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))

        def ended() -> list[TaskRun]:
            runs = client.read_task_runs(flow_run_filter=which, limit=200)
            return (
                runs
                if len(runs) >= tasks and all(run.state and run.state.is_final() for run in runs)
                else []
            )

        runs = until(ended, f"{tasks} task runs that ended", every=0.2)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id])),
            limit=200,
        )
    assert len(runs) == tasks, sorted(run.name for run in runs)
    return Seen(
        flow_run,
        {run.name: run for run in runs},
        {artifact.key or "": artifact for artifact in artifacts},
    )
