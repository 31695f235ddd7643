"""What it takes to plan: seconds and peak memory of ``fmn plan`` as a whole process.

The zoo is of 16 tiny models by two methods, 131,038 merges in an empty store, which need
``merge.limit``; beside it one of 2 models (what the program takes by itself), and one of 22 models,
whose 8.4 million merges are refused before one is thought of. Peak memory is the process's largest
resident set, files that are mapped included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import table
from _zoo import describe, make_models

METHODS = ["average", "mask-fisher"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--refused", type=int, default=22, help="models of the zoo without a limit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {
            **os.environ,
            "FMN_CACHE": str(work / "cache"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        make_models(work, max(*args.models, args.refused))
        rows = [planned(work, environment, count) for count in args.models]
        rows.append(planned(work, environment, args.refused, limit=1))
    print(
        table(
            "fmn plan of a zoo that was never run",
            ("models", "merges", "", "seconds", "peak memory, MB"),
            rows,
        )
    )


def planned(
    work: Path, environment: dict[str, str], count: int, limit: int = 10**9
) -> tuple[object, ...]:
    """Plan all merges of so many models; return the row."""
    merges = len(METHODS) * (2**count - count - 1)
    params = describe(work, count, METHODS, sizes="all", limit=limit)
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "fmn", "plan", params]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True)
    took = time.perf_counter() - start
    is_refused = f"{merges:,} merges" in done.stderr
    if done.returncode != is_refused or is_refused != (merges > limit):
        sys.exit(f"fmn plan of {count} models: {done.stderr}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    memory = int(done.stdout.splitlines()[-1]) * unit / 1e6
    what = "refused" if is_refused else "planned"
    return count, f"{merges:,}", what, f"{took:.1f}", f"{memory:.0f}"


MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process that runs another: the peak of a child counts what its parent had."""


if __name__ == "__main__":
    main()
