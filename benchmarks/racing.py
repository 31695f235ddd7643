"""What claims save: cold processes that run one zoo of tiny models at once, with and without.

Each process starts from nothing (its own interpreter and cache), and opens the same directory as
its store. Prints the seconds until the last is done, and the steps that all of them computed, of
which one process alone computes as many as the column beside says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _zoo import make_world

from fmn.store.claims import LEASE

RUN = """
import json, sys
from pathlib import Path
from fmn.params import read_params
from fmn.steps.context import Context
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store
context = Context(device="cpu")
graph = Graph(open_zoo(read_params(Path(sys.argv[1])), context.memo))
store = open_store(sys.argv[2], lease=float(sys.argv[3]), warn=lambda line: None)
print(json.dumps(run_zoo(graph, store, context).as_json()["computed"]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        make_world(work).params(work / "params.yaml")
        alone = raced(work, environment, "alone", 1, 0.0)[1]
        print("| claims | processes | seconds | steps computed | by one alone |")
        print("|---|---|---|---|---|")
        for name, lease in (("without", 0.0), ("with", LEASE)):
            seconds, computed = raced(work, environment, name, args.processes, lease)
            print(f"| {name} | {args.processes} | {seconds:.1f} | {computed} | {alone} |")


def raced(
    work: Path, environment: dict[str, str], name: str, processes: int, lease: float
) -> tuple[float, int]:
    """Run so many at once; return the seconds, and how many steps they computed in all."""
    start = time.perf_counter()
    command = [sys.executable, "-c", RUN, work / "params.yaml", work / f"store-{name}", str(lease)]
    running = [
        subprocess.Popen(
            command,
            env={**environment, "FMN_CACHE": str(work / f"cache-{name}-{number}")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    summaries = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit("a run failed")
    seconds = time.perf_counter() - start
    return seconds, sum(sum(json.loads(summary).values()) for summary in summaries)


if __name__ == "__main__":
    main()
