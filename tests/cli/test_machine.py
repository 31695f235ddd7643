"""Machines that lack something: a home, a current directory, room, all characters but ASCII."""

import json
import os
import subprocess
import sys

import pytest
import torch

from fmn.console.command import in_words
from fmn.store import home_directory, memo
from tests.cli.conftest import fmn, refused, succeeded
from tests.cli.test_disk import fill, small_disk  # noqa: F401  (a fixture)

WITHOUT_HOME = """
import os, pwd, sys
def nobody(*_):
    raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = nobody
for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "FMN_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
from fmn.__main__ import main
main(prog_name="fmn")
"""


def program(*arguments, script="from fmn.__main__ import main; main(prog_name='fmn')", **settings):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, **settings)


def test_a_user_without_home_and_name(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = program("store", "ls", tmp_path / "store", script=WITHOUT_HOME, env=environment)
    assert (done.returncode, done.stdout) == (0, b"nothing is stored yet\n"), done.stderr
    done = program("store", "ls", "~/store", script=WITHOUT_HOME, env=environment)
    assert done.stderr.decode() == (
        "fmn: there is no home that ~ stands for; set HOME to a directory\n"
    )


def test_a_temporary_home_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(memo.Path, "home", no_home)
    monkeypatch.setattr(memo.tempfile, "gettempdir", lambda: str(tmp_path))
    place = home_directory()
    assert place.is_dir() and place.stat().st_mode & 0o777 == 0o700
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(Exception, match="set FMN_CACHE to a directory"):
        home_directory()


def test_a_current_directory_that_was_removed(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
        "from fmn.__main__ import main; main(prog_name='fmn')"
    )
    done = program("demo", script=script)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "fmn: the current directory was removed; change to one that exists\n"
    )


TABLE = """
from fmn.console.output import echo_json, prepare_streams
from fmn.console.tables import print_scores
from fmn.steps.scores import TaskScores
prepare_streams()
print_scores([TaskScores("für", {"accuracy": 0.5}, 3, 0.1)])
echo_json({"name": "für \N{GRINNING FACE}\\x9b"}, indent=None)
"""


def test_a_terminal_that_knows_ascii_alone():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LANG": "C"}
    done = program(script=TABLE, env=environment)
    assert done.returncode == 0 and done.stdout.isascii(), done.stderr
    lines = done.stdout.decode().splitlines()
    assert json.loads(lines[-1]) == {"name": "für \N{GRINNING FACE}\x9b"}
    assert any(line.startswith("|") and "accuracy" in line and "50.00" in line for line in lines)
    done = program("plan", "für-λ.yaml", env=environment)
    assert done.returncode == 1 and b"cannot read f" in done.stderr and done.stderr.isascii()


def test_gc_on_a_full_disk(small_disk):  # noqa: F811
    folder = small_disk / "store" / "files" / "md5" / "ab"
    folder.mkdir(parents=True)
    (folder / ("0" * 30)).write_bytes(b"x" * 8192)
    fill(small_disk, leave=0)
    stdout = succeeded(fmn("store", "gc", small_disk / "store", "--grace", 0)).stdout
    assert stdout.startswith("1 objects (0.0 MB) dropped")
    assert not (folder / ("0" * 30)).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "ls", "{}"),
        ("plan", "{}"),
        ("evaluate", "{}", "--task", "sst2"),
        ("evaluate", ".", "--task", "{}"),
        ("evaluate", ".", "--task", "{}.yaml"),
        ("fisher", ".", "--task", "sst2", "--out", "{}"),
        ("inspect", "{}"),
        ("report", "--store", "{}"),
        ("demo", "{}"),
    ],
)
def test_names_that_no_file_can_have(arguments, tmp_path):
    line = refused(fmn(*(each.format("a" * 3_000) for each in arguments)), "^fmn: ")
    assert len(line) < 2_100


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "ls", "{}"),
        ("store", "dvc-remote", "{}"),
        ("plan", "{}"),
        ("evaluate", "{}", "--task", "sst2"),
        ("merge", "{}", "--parent", "{}", "--out", "x"),
        ("catalog", "ls", "--store", "{}"),
        ("report", "--store", "{}"),
        ("{}",),
        ("plan", "x", "{}"),
        ("plan", "--{}"),
    ],
)
def test_passwords_on_the_command_line_are_not_said(arguments):
    result = fmn(*(each.format("s3://KEY:S3CRET@bucket") for each in arguments))
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    assert "S3CRET" not in result.output and "***@bucket" in result.output


def test_what_a_name_holds_does_nothing_to_a_terminal(tmp_path):
    line = refused(fmn("plan", "a\x1b[2J\u202e\nfmn: fine"), "cannot read")
    assert "a\\u001b[2J\\u202e\\nfmn: fine" in line


def test_errors_of_the_system_say_what_to_do():
    full = OSError(28, "No space left on device", "/tmp/x")
    assert in_words(full).startswith("/tmp/x: No space left on device; make room on that disk")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")]
)
def test_memory_that_ran_out(error, world, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("fmn.models.load_model", full)
    refused(
        fmn("evaluate", world.model("sst2"), "--task", "sst2", "--data", world.data),
        r"there is not enough memory \((MemoryError|CUDA out of memory.*)\); take smaller batches",
    )
