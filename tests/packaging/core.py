"""What the wheel alone has to do: a program for a Python that has it, no extra, and no clone.

``.ci/wheel`` builds the wheel, installs it, and runs this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils import logging

import fmn
from fmn.extras import EXTRAS
from fmn.steps.reproduce.paper import read_paper

BROUGHT = ("fsspec", "accelerate", "psutil")
"""What the core's own requirements need of their own, though extras name it, too."""

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "it", "was")
TASKS = {"sst2": ("sentence",), "rte": ("sentence1", "sentence2")}
PARAMS = """
store: store
data: data
models: [{model: sst2, task: sst2}, {model: rte, task: rte}]
"""


def write_world(folder: Path) -> None:
    """Write two tiny models with a tokenizer and their data."""
    rows = [f"it was {word}" for word in ("good", "bad") * 8]
    for seed, (task, columns) in enumerate(TASKS.items()):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = BertConfig(vocab_size=len(WORDS), intermediate_size=24, num_labels=2, **sizes)
        BertForSequenceClassification(config).save_pretrained(folder / task)
        tokenizer().save_pretrained(folder / task)
        for split in ("train", "validation"):
            path = folder / "data" / task / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(dict.fromkeys(columns, rows) | {"label": [1, 0] * 8}), path)
    for method in ("average", "mask-fisher"):
        recipe = {
            "method": method,
            "data": "data",
            "models": [{"model": task, "task": task} for task in TASKS],
        }
        (folder / f"{method}.yaml").write_text(json.dumps(recipe))
    (folder / "params.yaml").write_text(PARAMS)


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of a few words."""
    words = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, sep_token="[SEP]", **names)


def run(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment."""
    program, *arguments = command.split()
    words = [str(Path(sys.executable).parent / program), *arguments]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def works(command: str, says: str) -> None:
    """Check that a command does its work and says so."""
    done = run(command)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert re.search(says, done.stdout), (command, done.stdout)
    print(f"works: {command}")


def asks_for(extra: str, command: str) -> None:
    """Check that a command is refused in one line, which names the extra that it needs."""
    done = run(command)
    line = rf"fmn: .* needs \w+, which is not installed; .*'fisher-mask-nodes\[{extra}\]'\n"
    assert done.returncode == 1, (command, done.stdout, done.stderr)
    assert re.fullmatch(line, done.stderr), (command, done.stderr)
    print(f"asks for {extra}: {command}")


def main() -> None:
    """Check what was installed, and use it."""
    installed = distribution(fmn.DISTRIBUTION)
    files = {file.parts[0] for file in installed.files or () if ".." not in file.parts}
    assert files == {"fmn", f"fisher_mask_nodes-{installed.version}.dist-info"}, files
    assert Path(fmn.__file__).is_relative_to(sys.prefix), fmn.__file__
    optional = {package for names in EXTRAS.values() for package in names} - {*BROUGHT}
    assert not [package for package in optional if find_spec(package)], "an extra is installed"

    assert len(read_paper().normalised) == 7, "the paper's tables are files of the package"

    logging.disable_progress_bar()
    write_world(Path())
    works("fmn --version", rf"^fmn, version {re.escape(installed.version)}\n$")
    works("python -m fmn --help", "fisher(.|\n)*flow(.|\n)*merge")
    works("fmn fisher sst2 --task sst2 --data data --out sst2.safetensors", "over 16 sst2 examples")
    works("fmn inspect sst2.safetensors", "layer")
    works("fmn merge average.yaml --out average", "average")
    works("fmn merge mask-fisher.yaml --out merged", "merged")
    works("fmn evaluate merged --data data", "rte(.|\n)*sst2")

    asks_for("store", "fmn run")
    asks_for("store", "fmn catalog ls --store s3://bucket/prefix")
    asks_for("flow", "fmn flow run")
    asks_for("report", "fmn report")
    asks_for("report", "fmn inspect sst2.safetensors --plot picture.svg")
    Path(".dvc").mkdir()
    asks_for("dvc", "fmn store dvc-remote store --write")
    # what those lines say to do works for a wheel that no registry has: pip adds to what is there
    works(f"python -m pip install --no-index {fmn.DISTRIBUTION}[large]", "already satisfied")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"FMN_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hub"}
        main()
