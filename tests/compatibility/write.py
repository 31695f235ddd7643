"""Write the store and the recipes that later versions are held to.

It is run once, in a checkout of the commit whose formats are to be kept, with that checkout first
on PYTHONPATH: ``python write.py FOLDER`` writes FOLDER, which is then committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification

from tests.steps.world import LABELS, SIZES, build_world, save

MODELS = [{"model": f"world/{task}", "task": task} for task in LABELS]
ZOO = {
    "store": "store",
    "data": "world/data",
    "parent": "world/parent",
    "fisher": {"samples": 16},
    "evaluate": {"limit": 30},
    "models": MODELS,
}
METHODS = [
    "average",
    "fisher",
    "mask-fisher",
    "task-arithmetic",
    "ties",
    "dare-linear",
    "dare-ties",
    "slerp",
    "model-stock",
    "regmean",
]
ZOOS = {
    "pairs": {"methods": METHODS, "sizes": [2], "keep": "best"},
    "all": {
        "methods": ["average", "mask-fisher", "ties"],
        "sizes": [3],
        "parameters": {"association": "output", "normalize": "mean", "density": 0.5},
        "weights": {"rte": 0.5},
    },
}
RECIPES = {
    "mask": {"method": "mask-fisher", "data": "world/data", "fisher": {"samples": 16}},
    "ties": {"method": "ties", "parent": "world/parent", "parameters": {"scale": 0.7}},
    "average": {"method": "average", "dtype": "bfloat16"},
}


def main(folder: Path) -> None:
    """Build a small zoo, and let the commands of this checkout work on it."""
    folder.mkdir()
    os.chdir(folder)
    build_world(Path("world"))
    torch.manual_seed(0)
    save(BertForSequenceClassification(BertConfig(**SIZES, num_labels=2)), Path("world/parent"))
    for name, merge in ZOOS.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**ZOO, "merge": merge}, sort_keys=False))
        fmn("run", f"{name}.yaml", "--device", "cpu")
    fmn("fisher", "push", "world/mnli", "--store", "store", "--task", "mnli")
    merges = json.loads(fmn("catalog", "ls", "--store", "store", "--json"))
    fmn("catalog", "tag", "candidate", merges[0]["id"], "--store", "store")
    fmn("catalog", "rm", merges[-1]["id"], "--store", "store", "--reason", "to be hidden")
    expected = {"candidate": merges[0]["id"], "hidden": merges[-1]["id"], "merged": {}}
    for name, recipe in RECIPES.items():
        recipe = {**recipe, "models": MODELS}
        Path(f"{name}.recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        fmn("merge", f"{name}.recipe.yaml", "--device", "cpu", "--out", f"merged-{name}")
        shutil.copyfile(f"merged-{name}/recipe.yaml", f"{name}.resolved.yaml")
        expected["merged"][name] = digests(Path(f"merged-{name}"))
        shutil.rmtree(f"merged-{name}")
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def fmn(*arguments: str) -> str:
    """Run a command of this checkout in a fresh cache; return what it printed."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "FMN_CACHE": cache, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "fmn.cli", *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=-1, text=True).stdout


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a merge's directory, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
