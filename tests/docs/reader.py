"""A reader who types the blocks of a page into terminals.

They are in a copy of what a clone has, beside the demo's zoo.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import Progress

from tests.docs.blocks import ROOT, Block, blocks

CLONED = ("dvc.yaml", "prefect.yaml", "params.yaml", ".gitignore", "docs/plots/dots.json", "flows")
FOREIGN = ("AWS_", "DVC_", "FMN_", "GIT_", "PREFECT_", "PIP_")
PATIENCE = 240.0
"""Seconds that one block may take on a machine that has much else to do."""


class Reader:
    """Follows pages; what was started in the background ends with the context."""

    def __init__(
        self,
        folder: Path,
        programs: Path,
        replaced: Mapping[str, str] | None = None,
        **environment: str,
    ) -> None:
        """Take a seat.

        Args:
            folder: where the terminals start.
            programs: the directory of those that a reader starts most.
            replaced: what a reader writes in place of what the page says (an address, a name).
            environment: variables of every terminal.
        """
        self.folder, self._replaced = folder, dict(replaced or {})
        path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = {"PATH": os.pathsep.join(path), **environment}
        self._state = folder.parent / f"{folder.name}-terminals"
        self._background: list[subprocess.Popen[bytes]] = []

    def follow(self, page: Path) -> list[str]:
        """Type every block of a page; return what each printed, on both of its outputs."""
        return [self.type(block) for block in blocks(page) if block.is_executed]

    def type(self, block: Block) -> str:
        """Type one block; it must succeed."""
        text = self._replace(block.text)
        terminal = self._terminal(block.terminal)
        if block.language == "python":
            (terminal / "script.py").write_text(text, encoding="utf-8")
            text = f"python {shlex.quote(str(terminal / 'script.py'))}\n"
        restored = (
            f'cd "$(cat {terminal}/cwd)"\nif [ -f {terminal}/env ]; then source '
            f"{terminal}/env; fi\n"
        )
        environment = self._variables(terminal)
        log = terminal / f"printed-{block.line}"
        with log.open("wb") as out:
            if block.awaited:
                process = subprocess.Popen(
                    ["bash", "-c", restored + text],
                    env=environment,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
                self._background.append(process)
                self._wait(process, self._replace(block.awaited), block, log)
                return ""
            script = (
                f"set -euo pipefail\n{restored}{text}export -p > {terminal}/env\npwd > "
                f"{terminal}/cwd\n"
            )
            done = subprocess.run(
                ["bash", "-c", script],
                env=environment,
                stdout=out,
                stderr=out,
                check=False,
                timeout=PATIENCE,
            )
        printed = log.read_text(encoding="utf-8")
        assert done.returncode == 0, f"{block.where} failed:\n{printed}"
        assert "Traceback" not in printed, f"{block.where}:\n{printed}"
        return printed

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._background):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _replace(self, text: str) -> str:
        for words, instead in self._replaced.items():
            text = text.replace(words, instead)
        return text

    def _terminal(self, name: str) -> Path:
        terminal = self._state / name
        if not terminal.is_dir():
            (terminal / "home").mkdir(parents=True)
            (terminal / "cwd").write_text(str(self.folder))
        return terminal

    def _variables(self, terminal: Path) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
        }
        return {
            **inherited,
            "HOME": str(terminal / "home"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
            "DO_NOT_TRACK": "1",
            "DVC_NO_ANALYTICS": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{
                f"GIT_{who}_{what}": "reader@example.org"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
            **self._environment,
        }

    def _wait(
        self, process: subprocess.Popen[bytes], awaited: str, block: Block, log: Path
    ) -> None:
        end, text = time.monotonic() + PATIENCE, awaited.removeprefix("it says ")
        while not (
            _answers(awaited) if text == awaited else text in log.read_text(encoding="utf-8")
        ):
            assert process.poll() is None, (
                f"{block.where} ended:\n{log.read_text(encoding='utf-8')}"
            )
            assert time.monotonic() < end, (
                f"{block.where}: waited for {awaited}:\n{log.read_text(encoding='utf-8')}"
            )
            time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def clone(folder: Path) -> Path:
    """Make a directory as who cloned the repository has it; the environment is this one."""
    for path in CLONED:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(
                ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / path, folder / path)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("# a reader has this environment already\n")
    return folder


def brief_zoo(dest: Path) -> Path:
    """Make the demo's zoo with models that learnt for five steps.

    ``fmn demo`` takes it for the whole one.
    """
    from fmn.demo.settings import Schedule, Settings
    from fmn.demo.zoo import STAMP, build

    brief = Schedule(steps=5, learning_rate=1e-3, batch_size=8)
    quick = replace(
        Settings(), passages=200, train_rows=150, validation_rows=60, pretraining=brief, threads=1
    )
    quick = replace(quick, fine_tuning=dict.fromkeys(quick.fine_tuning, brief))
    build(dest, quick, Progress(console=Console(quiet=True)))
    stamp = (dest / STAMP).read_text(encoding="utf-8")
    (dest / STAMP).write_text(stamp.replace(quick.digest(), Settings().digest()), encoding="utf-8")
    return dest
