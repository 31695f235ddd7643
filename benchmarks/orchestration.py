"""What orchestration costs: the flow over zoos of 6 to 12 tiny models.

The steps of such a flow take next to nothing.

For each size: all combinations by three methods, first run and a run in which everything is cached,
in processes of their own against one running Prefect server. Prints the seconds outside the steps
themselves, in all and per combination, the seconds of planning, and, for the cached run, the
seconds beyond a flow that does nothing (Prefect's own start).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from _zoo import describe, make_models

METHODS = ["average", "fisher", "mask-fisher"]
NOTHING = "from prefect import flow\n@flow\ndef nothing():\n    return 1\nnothing()\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, nargs="+", default=[6, 8, 10])
    parser.add_argument(
        "--plan-only",
        type=int,
        nargs="+",
        default=[12, 15],
        help="sizes of which only `fmn plan` is timed",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {
            **os.environ,
            "FMN_CACHE": str(work / "cache"),
            "HF_HUB_OFFLINE": "1",
            "PREFECT_HOME": str(work / "prefect"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        make_models(work, max(args.models + args.plan_only))
        server, environment["PREFECT_API_URL"] = prefect_server(environment)
        try:
            start = seconds([sys.executable, "-c", NOTHING], work, environment)
            print(f"a Prefect flow that does nothing, as a process: {start:.1f} s\n")
            table_head(
                "models",
                "combinations",
                "merges",
                "first run, s",
                "of it in steps, s",
                "outside, ms per combination",
                "cached run, s",
                "beyond Prefect's start, s",
            )
            for count in args.models:
                print(measured(work, environment, count, start), flush=True)
            print()
            table_head("models", "combinations", "merges", "seconds of `fmn plan`")
            for count in args.plan_only:
                describe(work, count, METHODS)
                took = seconds(
                    [sys.executable, "-m", "fmn", "plan", f"{count}.yaml"], work, environment
                )
                print(
                    f"| {count} | {2**count - count - 1:,} | "
                    f"{len(METHODS) * (2**count - count - 1):,} | {took:.1f} |",
                    flush=True,
                )
        finally:
            server.terminate()


def table_head(*headings: str) -> None:
    print("|", " | ".join(headings), "|")
    print("|---" * len(headings) + "|")


def measured(work: Path, environment: dict[str, str], count: int, start: float) -> str:
    """Run a zoo twice; return the row."""
    describe(work, count, METHODS)
    command = [
        sys.executable,
        "-m",
        "fmn",
        "flow",
        "run",
        f"{count}.yaml",
        "--summary",
        "summary.json",
    ]
    first = seconds(command, work, environment)
    spent = json.loads((work / "summary.json").read_text())["seconds"]
    steps = spent["fisher"] + spent["merge"] + spent["evaluate"]
    cached = seconds(command, work, environment)
    combinations = 2**count - count - 1
    outside = 1000 * (spent["wall"] - steps) / combinations
    figures = [first, steps, outside, cached, cached - start]
    return (
        f"| {count} | {combinations:,} | {len(METHODS) * combinations:,} | "
        + " | ".join(f"{f:.1f}" for f in figures)
        + " |"
    )


def seconds(command: list[str], work: Path, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def prefect_server(environment: dict[str, str]) -> tuple[subprocess.Popen, str]:
    """Start a Prefect server on a free port and wait for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Path(environment["PREFECT_HOME"]).mkdir()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()
            return server, url
        except OSError:
            time.sleep(0.2)
    sys.exit("the Prefect server did not start")


if __name__ == "__main__":
    main()
