"""Ctrl-C, SIGTERM and SIGHUP: a command ends within seconds, in one line, and leaves nothing half
written."""

import os
import signal
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest

from tests.forks import forking
from tests.steps.world import LABELS, write_yaml

FOREVER = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


def held(*arguments, **more):
    """Wait where a result becomes visible, until somebody asks the process to end."""
    Path("held").touch()
    time.sleep(60)


def stuck(*arguments, **more):
    """Wait as :func:`held` does, in code that Python cannot interrupt."""
    Path("held").touch()
    sqlite3.connect(":memory:").execute(FOREVER).fetchall()


def work(folder, arguments, wait, ignored):
    os.chdir(folder)
    os.environ |= {"FMN_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "temporary")}
    tempfile.tempdir = None
    for number, name in enumerate(("out", "err"), 1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    import fmn.steps.measure
    from fmn.__main__ import main

    os.link = wait
    Path.rename = wait
    fmn.steps.measure.evaluate_path = wait
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ignored:
        signal.signal(ignored, signal.SIG_IGN)
    main([str(argument) for argument in arguments], prog_name="fmn")


@pytest.fixture
def start(tmp_path):
    """Start a command, and wait until it is held."""
    started = []

    def start(*arguments, wait=held, ignored=None):
        (tmp_path / "temporary").mkdir()
        context = forking("fmn.__main__", "fmn.models", "tests.cli.test_stops")
        process = context.Process(target=work, args=(tmp_path, arguments, wait, ignored))
        process.start()
        started.append(process)
        end = time.monotonic() + 60
        while not (tmp_path / "held").exists():
            assert process.is_alive(), (tmp_path / "err").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def stop(process, *numbers):
    """Send signals; return the seconds until the process ended."""
    begin = time.monotonic()
    for number in numbers:
        os.kill(process.pid, number)
        process.join(0.5)
    process.join(60)
    return time.monotonic() - begin


def left(folder):
    """What is there, but for what the test itself made, and what a cache or a store keeps."""
    ours = {"out", "err", "held", "temporary", "cache", "store", "params.yaml", "recipe.yaml"}
    return {path.name for path in folder.iterdir()} - ours


@pytest.fixture
def commands(world, tmp_path):
    """Commands that take long, by name."""
    sst2, rte = ({"model": str(world.model(task)), "task": task} for task in list(LABELS)[:2])
    recipe = {"method": "average", "models": [sst2, rte]}
    params = world.params(tmp_path / "params.yaml")
    data = ["--data", world.data]
    return {
        "run": ["run", params],
        "reproduce": ["reproduce", "--params", params, "--methods", "average", "--sizes", "2"],
        "fisher": ["fisher", sst2["model"], "--task", "sst2", *data, "--out", "new"],
        "evaluate": ["evaluate", sst2["model"], "--task", "sst2", *data],
        "merge": ["merge", write_yaml(tmp_path / "recipe.yaml", recipe), "--out", "new"],
    }


@pytest.mark.parametrize("name", ["run", "reproduce", "fisher", "evaluate", "merge"])
def test_a_command_that_is_asked_to_stop_ends_in_one_line_and_leaves_nothing(
    start, commands, tmp_path, name
):
    process = start(*commands[name])
    assert stop(process, signal.SIGTERM) < 5
    assert process.exitcode == 128 + signal.SIGTERM
    text = (tmp_path / "err").read_text()
    assert (text.count("fmn: "), text.count("Traceback")) == (1, 0)
    keeps = f"what is done is in {tmp_path / 'store'}; the same command goes on from there"
    nothing = "nothing half written is left; the same command does the rest"
    advice = keeps if name in ("run", "reproduce") else nothing
    assert text.endswith(f"fmn: stopped by SIGTERM: {advice}\n")
    assert left(tmp_path) == set()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_every_signal_has_its_code(start, commands, tmp_path, number):
    process = start(*commands["run"])
    assert stop(process, number) < 5
    assert process.exitcode == 128 + number
    assert f"fmn: stopped by {number.name}: " in (tmp_path / "err").read_text()


def test_code_that_cannot_be_interrupted_is_ended_after_a_while_and_what_it_staged_is_gone(
    start, commands, tmp_path
):
    process = start(*commands["merge"], wait=stuck)
    assert stop(process, signal.SIGINT) < 5
    assert process.exitcode == 128 + signal.SIGINT
    assert len((tmp_path / "err").read_text().splitlines()) == 1
    assert left(tmp_path) == set()


def test_the_second_ctrl_c_ends_even_that_at_once(start, commands, tmp_path):
    process = start(*commands["merge"], wait=stuck)
    assert stop(process, signal.SIGINT, signal.SIGINT) < 1.5
    assert process.exitcode == 128 + signal.SIGINT


def test_a_signal_that_is_ignored_stays_ignored(start, commands):
    """As of a command that ``nohup`` started."""
    process = start(*commands["merge"], ignored=signal.SIGHUP)
    os.kill(process.pid, signal.SIGHUP)
    process.join(1)
    assert process.is_alive()
