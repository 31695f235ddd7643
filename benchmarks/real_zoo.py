"""Every pair of a real zoo, merged by three methods, measured on the full validation files.

The methods are average, full Fisher and mask Fisher.

Reads a folder with ``zoo/build.py`` (which writes the checkpoints), ``glue/TASK/SPLIT.parquet`` and
``golden/pairs.json`` (reference scores from an independent implementation of the same formulas),
runs ``fmn run`` on it, and prints the table, the seconds of each part and how far the scores are
from the reference.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

TASKS = ("sst2", "rte", "mnli", "mrpc", "qqp", "qnli")
TOLERANCE = 0.3  # points; more than that is a mistake in one of the two implementations


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared", type=Path, help="the folder with zoo/, glue/ and golden/")
    parser.add_argument("--out", type=Path, help="also write the results to this new JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run(
            [sys.executable, args.shared / "zoo" / "build.py", work / "zoo"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (work / "params.yaml").write_text(
            yaml.safe_dump(params(work / "zoo", args.shared / "glue"))
        )
        command = [
            sys.executable,
            "-m",
            "fmn",
            "run",
            work / "params.yaml",
            "--markdown",
            "--out",
            work / "results.json",
        ]
        subprocess.run(command, check=True)
        results = json.loads((work / "results.json").read_text())
    compare(results, json.loads((args.shared / "golden" / "pairs.json").read_text()))
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


def params(zoo: Path, data: Path) -> dict:
    """All pairs by three methods.

    Fishers from the first 128 training rows, as the reference has them.
    """
    return {
        "store": str(zoo.parent / "store"),
        "data": str(data),
        "models": [{"model": str(zoo / task), "task": task} for task in TASKS],
        "fisher": {"samples": 128, "seed": None},
        "merge": {"methods": ["average", "fisher", "mask-fisher"], "sizes": [2], "heads": "merged"},
    }


def compare(results: dict, golden: dict) -> None:
    """Print the largest differences from the reference scores; exit with 1 if one is too large."""
    ours = {(frozenset(row["scores"]), row["method"]): row["scores"] for row in results["merges"]}
    differences = {
        task: abs(100 * results["individual"][task] - score)
        for task, score in golden["individual"].items()
    }
    for pair in golden["pairs"]:
        for task, score in pair["scores"].items():
            name = f"{task} of {' + '.join(pair['tasks'])} by {pair['method']}"
            differences[name] = abs(
                100 * ours[frozenset(pair["tasks"]), pair["method"]][task] - score
            )
    worst = max(differences, key=differences.__getitem__)
    print(
        f"\nAgainst the reference: {len(differences)} scores, largest difference "
        f"{differences[worst]:.2f} points ({worst})."
    )
    for method, mean in golden["mean_normalized"].items():
        print(
            f"Mean normalised score by {method}: {100 * results['mean_normalized'][method]:.2f}, "
            f"reference {mean:.2f}."
        )
    if differences[worst] > TOLERANCE:
        sys.exit(
            f"differences above {TOLERANCE}: "
            f"{[name for name, d in differences.items() if d > TOLERANCE]}"
        )


if __name__ == "__main__":
    main()
