"""How much of its models' scores a merge of a real zoo keeps, by method and by kind of heads.

Reads a folder with ``zoo/build.py`` (which writes the checkpoints and their parent) and
``glue/TASK/SPLIT.parquet``. Runs the sets of models that ``--sizes`` says by every method with own
and refitted heads, and prints the mean normalised score over sets and tasks (merged / individual,
in %), with the lowest of a single task. What ``--store`` has is not computed again. A method may
have parameters, as in params.yaml: ``'{method: mask-fisher, parameters: {distance: [1, 1.6]}}'``.
A zoo that is built already is ``--zoo``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from real_zoo import TASKS

from fmn.params import Params
from fmn.schema import parse
from fmn.steps.context import Context
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import Row, ZooReport, zoo_report
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store

METHODS = ("average", "mask-fisher", "regmean", "tsv-m", "regmean-free", "iso-c")
HEADS = ("own", "refit")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared", type=Path, help="the folder with zoo/ and glue/")
    parser.add_argument("--zoo", type=Path, help="the built zoo, instead of building it")
    parser.add_argument("--sizes", type=int, nargs="+", default=[len(TASKS)])
    parser.add_argument("--sets", nargs="+", help="such as sst2+rte, instead of --sizes")
    parser.add_argument("--nodes", nargs="+", default=(), help="that mask Fishers are taken of")
    parser.add_argument("--methods", nargs="+", type=yaml.safe_load, default=METHODS)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--samples", type=int, default=512, help="that heads are refitted on")
    parser.add_argument(
        "--text", type=Path, help="refit on its sentences, not on the tasks' inputs"
    )
    parser.add_argument("--limit", type=int, help="validation rows of a task; all without it")
    parser.add_argument("--store", type=Path, help="keep the results there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = args.zoo or Path(folder) / "zoo"
        if not args.zoo:
            build = [sys.executable, args.shared / "zoo" / "build.py", models]
            subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        context, store = Context(), open_store(args.store or Path(folder) / "store")
        zoo = open_zoo(params(args, models), context.memo)
        graph = Graph(zoo)
        run_zoo(graph, store, context)
        report = zoo_report(graph, store)
    print(f"| method | {' | '.join(f'heads {kind}' for kind in args.heads)} |")
    print("| --- |" + " ---: |" * len(args.heads))
    for method in dict.fromkeys(label.rpartition(", heads ")[0] or label for label in zoo.variants):
        cells = (kept(report, label_of(method, kind, args.heads)) for kind in args.heads)
        print(f"| {method} | {' | '.join(cells)} |")


def params(args: argparse.Namespace, zoo: Path) -> Params:
    """Describe the zoo."""
    sets = [each.split("+") for each in args.sets or ()]
    content = {
        "data": str(args.shared / "glue"),
        "parent": str(zoo / "parent"),
        "models": [{"model": str(zoo / task), "task": task} for task in TASKS],
        "fisher": {"nodes": args.nodes},
        "refit": {"samples": args.samples, "text": args.text and str(args.text)},
        "merge": {
            "methods": list(args.methods),
            **({"combinations": sets} if sets else {"sizes": args.sizes}),
            "heads": list(args.heads),
        },
        "evaluate": {"limit": args.limit},
    }
    return parse(Params, content, "the zoo")


def label_of(method: str, kind: str, heads: list[str]) -> str:
    """Return the label of a method's merges with heads of a kind."""
    return f"{method}, heads {kind}" if len(heads) > 1 else method


def kept(report: ZooReport, label: str) -> str:
    """Say the mean normalised score of a method's merges, and the lowest of a task."""
    rows: list[Row] = [row for row in report.rows if row.method == label]
    scores = [score for row in rows for score in report.normalized(row).values()]
    mean = sum(map(report.mean, rows)) / len(rows)
    return f"{100 * mean:.1f} [{100 * min(scores):.0f}]"


if __name__ == "__main__":
    main()
