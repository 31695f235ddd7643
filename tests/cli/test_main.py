import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import fmn as package
from fmn.__main__ import main
from fmn.errors import CheckpointError
from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.world import files

COMMANDS = {
    "catalog",
    "demo",
    "evaluate",
    "fisher",
    "flow",
    "inspect",
    "merge",
    "plan",
    "report",
    "reproduce",
    "run",
    "stage",
    "store",
}
SLOW = ("torch", "transformers", "datasets", "pandas", "sklearn", "scipy", "pyarrow", "numpy")


def test_every_command_has_help_and_so_has_every_option():
    assert set(main.commands) == COMMANDS
    listed = succeeded(fmn("--help")).stdout
    for name, command in main.commands.items():
        assert f"  {name}" in listed
        for flag in ("--help", "-h"):
            output = succeeded(fmn(name, flag)).stdout
            assert command.help.split("\n")[0][:30] in output
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert option.opts[0] in output
            obvious = {
                "--seed",
                "--split",
                "--placement",
                "--aggregation",
                "--kind",
                "--batch-size",
            }
            assert option.help or option.opts[0] in obvious, (
                f"{name} {option.opts[0]} says nothing of itself"
            )


def test_the_version():
    assert succeeded(fmn("--version")).stdout == f"fmn, version {package.__version__}\n"


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )


@pytest.mark.parametrize(
    "code",
    [
        "import fmn, fmn.errors",
        "import fmn.cli",
        "import fmn.cli\nfmn.cli.main(['--help'], standalone_mode=False)",
        "import fmn.cli\nfmn.cli.main(['store', '--help'], standalone_mode=False)",
    ],
)
def test_help_imports_nothing_slow(code):
    done = python(f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)")
    loaded = done.stderr.split()
    assert "fmn" in loaded
    assert not set(loaded) & set(SLOW)


def test_help_that_lists_methods_imports_no_more_than_they_need():
    code = "import fmn.cli\nfmn.cli.main(['merge', '--help'], standalone_mode=False)"
    done = python(f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)")
    assert set(done.stderr.split()) & set(SLOW) == {"numpy"}
    for method in ("average", "mask-fisher", "regmean"):
        assert f"  {method}  " in done.stdout
    assert "density (0.2): share of each task vector that is kept" in " ".join(done.stdout.split())


def test_an_average_imports_no_torch(world, tmp_path):
    recipe = world.recipe(tmp_path / "recipe.yaml", ("sst2", "rte", "mnli"), method="average")
    code = (
        "import sys, json, fmn.cli\nfmn.cli.main(sys.argv[1:], "
        "standalone_mode=False)\njson.dump(sorted(sys.modules), sys.stderr)"
    )
    loaded = json.loads(python(code, "merge", recipe, "--out", tmp_path / "merged").stderr)
    assert {"fmn.merging.engine", "safetensors"} <= set(loaded)
    assert not {"torch", "transformers", "datasets", "pandas"} & set(loaded)
    succeeded(fmn("merge", recipe, "--out", tmp_path / "again"))
    assert files(tmp_path / "merged") == files(tmp_path / "again")


def test_the_installed_program(world, tmp_path):
    """In a process of its own, without a terminal: results on stdout, nothing else there, no bars
    anywhere."""
    program = Path(sys.executable).parent / "fmn"

    def run(*arguments):
        return subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, check=False
        )

    out = tmp_path / "sst2.safetensors"
    done = run(
        "fisher",
        world.model("sst2"),
        "--task",
        "sst2",
        "--data",
        world.data,
        "--samples",
        16,
        "--out",
        out,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{out}: mask Fisher of {world.model('sst2')} over 16 sst2 examples "
        f"({out.stat().st_size / 1e3:,.0f} kB)\n"
    )
    again = run("fisher", world.model("sst2"), "--task", "sst2", "--data", world.data, "--out", out)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"fmn: {out} exists already; remove it or choose another output\n"


def test_traceback_is_shown_where_it_is_asked_for(tmp_path):
    refused(
        fmn("merge", tmp_path / "none.yaml", "--out", tmp_path / "out"),
        r"cannot read .*none\.yaml: No such file or directory",
    )
    program = Path(sys.executable).parent / "fmn"
    command = [program, "--traceback", "merge", tmp_path / "none.yaml", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback (most recent call last)" in done.stderr
    assert "fmn.errors.ParamsError: cannot read" in done.stderr


def test_an_error_that_nobody_can_mend_is_not_hidden(monkeypatch, world, tmp_path):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("fmn.checkpoint.open_checkpoint", broken)
    result = fmn(
        "fisher",
        world.model("sst2"),
        "--task",
        "sst2",
        "--data",
        world.data,
        "--out",
        tmp_path / "out",
    )
    assert isinstance(result.exception, ZeroDivisionError)
    monkeypatch.setattr(
        "fmn.checkpoint.open_checkpoint",
        lambda *_: (_ for _ in ()).throw(CheckpointError("mend me")),
    )
    refused(
        fmn(
            "fisher",
            world.model("sst2"),
            "--task",
            "sst2",
            "--data",
            world.data,
            "--out",
            tmp_path / "out",
        ),
        "^fmn: mend me$",
    )
