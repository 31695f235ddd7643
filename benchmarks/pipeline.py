"""A whole real zoo through the flow, on two Dask workers, one of which is killed.

The zoo has six models, all sizes and two methods; its store is on an S3 server.

Reads a folder with ``zoo/build.py`` (which writes the checkpoints) and ``glue/TASK/SPLIT.parquet``.
Runs ``fmn flow run`` three times, each with its own Prefect server: the first run, in
which a worker process is killed once ten merges are stored; a second one; and one after a seventh
model was added (a copy of rte with a new head). Prints what each run computed, what it found, and
its wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from safetensors.numpy import load_file, save_file

TASKS = ("sst2", "rte", "mnli", "mrpc", "qqp", "qnli")
URL = "s3://team/real-zoo"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared", type=Path, help="the folder with zoo/ and glue/")
    parser.add_argument("--limit", type=int, default=300, help="validation examples per task")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--out", type=Path, help="also write the summaries to this JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run(
            [sys.executable, args.shared / "zoo" / "build.py", work / "zoo"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        server, environment = s3_server(work)
        try:
            results = measure(work, args, environment)
        finally:
            server.terminate()
    report(results)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


def measure(work: Path, args: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    models = [{"model": str(work / "zoo" / task), "task": task} for task in args.tasks]
    content = {
        "store": URL,
        "data": str((args.shared / "glue").absolute()),
        "parent": str(work / "zoo" / "parent"),
        "models": models,
        "fisher": {"samples": 128},
        "merge": {"methods": ["average", "mask-fisher"], "sizes": "all", "heads": "merged"},
        "evaluate": {"limit": args.limit},
        "runner": {"kind": "dask", "workers": 2},
    }
    results = {"first run": run(work, content, environment, kill_a_worker)}
    results["second run"] = run(work, content, environment)
    models.append(
        {
            "model": str(with_new_head(work / "zoo" / "rte", work / "zoo" / "rte-b")),
            "task": "rte",
            "name": "rte-b",
        }
    )
    results["a seventh model"] = run(work, content, environment)
    return results


def run(
    work: Path,
    content: dict,
    environment: dict[str, str],
    meanwhile: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Run the flow; return its summary, with the wall time of the whole process."""
    (work / "params.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "fmn", "flow", "run", "--summary", "summary.json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL)
    if meanwhile:
        threading.Thread(target=meanwhile, args=(process, environment), daemon=True).start()
    if process.wait():
        sys.exit(f"the flow failed; its summary: {(work / 'summary.json').read_text()}")
    summary = json.loads((work / "summary.json").read_text())
    summary["seconds"]["process"] = time.perf_counter() - start
    return summary


def kill_a_worker(flow: subprocess.Popen, environment: dict[str, str], merges: int = 10) -> None:
    """Kill one of the flow's worker processes as soon as so many merges are stored."""
    import boto3

    os.environ.update(environment)
    client = boto3.client("s3")
    while flow.poll() is None:
        listing = client.list_objects_v2(Bucket="team", Prefix="real-zoo/records/v2/merge/").get(
            "KeyCount", 0
        )
        alive = [
            child
            for child in psutil.Process(flow.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
        ]
        workers = [child for child in alive if "spawn_main" in " ".join(child.cmdline())]
        if listing >= merges and workers:
            workers[0].kill()
            print(f"killed worker process {workers[0].pid} after {listing} merges", flush=True)
            return
        time.sleep(0.5)


def with_new_head(source: Path, dest: Path, seed: int = 1) -> Path:
    """Copy a model, with the weights of its task head drawn anew."""
    shutil.copytree(source, dest)
    tensors = load_file(dest / "model.safetensors")
    head = np.random.default_rng(seed).normal(scale=0.02, size=tensors["classifier.weight"].shape)
    save_file(
        tensors | {"classifier.weight": head.astype(np.float32)},
        dest / "model.safetensors",
        {"format": "pt"},
    )
    return dest


def s3_server(work: Path) -> tuple[subprocess.Popen, dict[str, str]]:
    """Start an S3 server on a free port, with a bucket."""
    program = (
        "import logging\nfrom moto.server import DomainDispatcherApplication, "
        "create_backend_app\nfrom werkzeug.serving import "
        "make_server\nlogging.getLogger('werkzeug').setLevel(logging.ERROR)\nserver = "
        "make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), "
        "threaded=True)\nprint(server.port, flush=True)\nserver.serve_forever()\n"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FMN_CACHE": str(work / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    bucket = "import boto3; boto3.client('s3').create_bucket(Bucket='team')"
    subprocess.run([sys.executable, "-c", bucket], env=environment, check=True)
    return server, environment


def report(results: dict[str, Any]) -> None:
    print(
        "| run | computed: Fishers, merges, evaluations | from the store | seconds of the flow | "
        "of the whole process |"
    )
    print("|---|---|---|---|---|")
    for name, summary in results.items():
        computed, cached = (
            ", ".join(str(summary[what][kind]) for kind in ("fisher", "merge", "evaluate"))
            for what in ("computed", "cached")
        )
        seconds = summary["seconds"]
        print(
            f"| {name} | {computed} | {cached} | {seconds['wall']:,.0f} | "
            f"{seconds['process']:,.0f} |"
        )
    spent = results["first run"]["seconds"]
    print(
        "\nSeconds of computing in the first run, summed over the workers:",
        {k: round(v) for k, v in spent.items()},
    )


if __name__ == "__main__":
    main()
