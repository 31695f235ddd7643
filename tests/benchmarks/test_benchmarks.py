"""Every benchmark runs and prints its table; what the numbers are is not asked."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.forks import forking

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def table_of(script: str, *options: str | Path) -> list[str]:
    """Run a benchmark; return the first cells of all rows that it prints."""
    modules = ["bert.modeling_bert", "llama.modeling_llama"]
    context = forking("datasets", "fmn", *(f"transformers.models.{name}" for name in modules))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err")]
        process = context.Process(target=run, args=(script, list(map(str, options)), files))
        process.start()
        process.join()
        printed, errors = (file.read_text() for file in files)
    assert process.exitcode == 0, errors
    return [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]


def run(script: str, options: list[str], files: list[Path]) -> None:
    """Be ``python SCRIPT``, in a process that has imported what takes longest."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [str(BENCHMARKS / script), *options]
    sys.path.insert(0, str(BENCHMARKS))
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.stdout.flush()


def test_fisher():
    rows = table_of("fisher.py", "--quick", "--naive-examples", "2")
    expected = [
        "forward",
        "mask Fisher",
        "mask Fisher of all nodes",
        "full diagonal",
        "naive diagonal, extrapolated from 2 examples",
    ]
    assert rows[2:7] == expected  # on a GPU there is a second table, in bfloat16


def test_layerwise():
    assert table_of("layerwise.py", "--quick")[2:] == ["2"]


@pytest.mark.skipif(find_spec("accelerate") is None, reason="Trainer.predict needs accelerate")
def test_evaluate():
    assert table_of("evaluate.py", "--quick")[2:] == ["Trainer.predict", "fmn.predict"]


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is measured on Linux only"
)
def test_merge(tmp_path):
    rows = table_of(
        "merge.py", "--shape", "tiny", "--without-mergekit", "--repeats", "1", "--work", tmp_path
    )
    for expected in ("cp", "fmn average", "fmn mask-fisher", "largest tensor"):
        assert expected in rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-0", "tiny-1"]


def test_large():
    options = [
        "--shape",
        "tiny",
        "--layers",
        "1",
        "2",
        "--examples",
        "2",
        "--tokens",
        "16",
        "--repeats",
        "1",
    ]
    rows = table_of("large.py", *options, "--dtypes", "bfloat16")
    cases = ["forward", "mask Fisher", "mask Fisher, checkpointing"]
    assert [row for row in rows if row and row != "---"] == cases * 3


def test_orchestration():
    rows = table_of("orchestration.py", "--models", "2", "--plan-only", "3")
    assert rows == ["models", "2", "models", "3"]


def test_planning():
    rows = table_of("planning.py", "--models", "2", "--refused", "4")
    assert rows[2:] == ["2", "4"]


def test_singular():
    rows = table_of("singular.py", "--shape", "20", "30", "--models", "3")
    expected = ["tsv-m", "tsv-m, by SVD", "iso-c", "regmean-free", "della", "breadcrumbs"]
    assert rows[2:] == [*expected, "consensus-ta"]


def test_catalog():
    rows = table_of("catalog.py", "--records", "60", "--repeats", "1")
    assert rows[2:] == ["a directory"] * 2 + ["S3 over HTTP"] * 2 + ["S3 over HTTP, packed"] * 2


def test_racing():
    assert table_of("racing.py", "--processes", "1") == ["claims", "without", "with"]


@pytest.mark.skipif(
    "FMN_MERGEKIT" not in os.environ, reason="FMN_MERGEKIT names no environment that has mergekit"
)
def test_agreement():
    environment = os.environ["FMN_MERGEKIT"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "agreement.py", "--mergekit-venv", environment],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("| ")
    ]
    measured = {
        (row[0], row[1], row[2]): float(row[4])
        for row in rows
        if len(row) == 8 and row[4][0].isdigit() and not row[7]
    }
    assert len(measured) == 10
    assert max(measured.values()) < 1e-5


@pytest.mark.skipif(
    "FMN_PUBLISHED" not in os.environ, reason="FMN_PUBLISHED names no folder of published code"
)
def test_published():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "published.py", "--code", os.environ["FMN_PUBLISHED"]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("| ")
    ]
    measured = {
        row[0]: float(row[5])
        for row in rows
        if len(row) == 9 and row[3][0].isdigit() and not row[8]
    }
    assert set(measured) == {"della", "breadcrumbs", "consensus-ta", "tsv-m", "iso-c", "regmean"}
    assert measured.pop("della") < 1e-5  # in float32
    assert max(measured.values()) < 1e-9


def test_published_code_that_is_not_there_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "published.py", "--code", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("NOT COMPARED: ")]
    assert len(told) == 7
    assert f"git clone https://github.com/declare-lab/della {tmp_path / 'della'}" in told[0]
