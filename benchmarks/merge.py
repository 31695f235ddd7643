"""How long a merge of two bert-large checkpoints takes, beside copying a file and beside mergekit.

And how much memory it needs.

Timed as whole processes, each in turn, on the same two checkpoints (BertForSequenceClassification,
float32, random weights):

- cp: a plain copy of the merged backbone's file, the least that any merge has to write;
- fmn average: ``fmn merge`` of the two, interpreter start, digests and checks included;
- fmn mask-fisher: the same with two mask Fisher files;
- mergekit linear: ``mergekit-yaml`` with weights 0.5 and 0.5 in float32, without its model card and
  tokenizer copy. It lives in a virtual environment of its own, with the versions in
  constraints.txt, torch first.

Before each run the inputs are read once, so that they are in the page cache, and what earlier runs
left to write is written; after each run its output is deleted. fmn's and mergekit's results are
compared once. Memory is fmn's anonymous memory, sampled from /proc/PID/smaps_rollup in a run that
is not timed. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import yaml
from _common import SHAPES, interleaved, median, ratio, table
from transformers import BertConfig, BertForSequenceClassification

from fmn import MaskFisher, checkpoint
from fmn.checkpoint import SafetensorsWriter, TensorSpec

MERGEKIT = "mergekit==0.1.5"
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
FLOAT32 = np.dtype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=["large", "base", "tiny"], default="large")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--work",
        type=Path,
        help="keeps the checkpoints and mergekit's environment [a temporary directory]",
    )
    parser.add_argument(
        "--mergekit-venv",
        type=Path,
        help="where mergekit is, or is put [mergekit/ in the work directory]",
    )
    parser.add_argument("--without-mergekit", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (args.work or Path(folder)).absolute()
        models = [
            make_checkpoint(work / f"{args.shape}-{seed}", args.shape, seed) for seed in (0, 1)
        ]
        kit = (
            None
            if args.without_mergekit
            else mergekit((args.mergekit_venv or work / "mergekit").absolute())
        )
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            print(measure(Path(scratch), models, kit, args.repeats))


def measure(scratch: Path, models: Sequence[Path], kit: Path | None, repeats: int) -> str:
    """Run every case and return the tables."""
    out, reference = scratch / "out", scratch / "reference"
    write_configurations(scratch, models)
    fmn = [sys.executable, "-m", "fmn", "merge"]
    memory = {
        "average": peak_anonymous([*fmn, scratch / "average.yaml", "--out", reference]),
        "mask-fisher": peak_anonymous([*fmn, scratch / "mask-fisher.yaml", "--out", out]),
    }
    shutil.rmtree(out)
    files = sorted((reference / "backbone").glob("*.safetensors"))
    commands: dict[str, list[str | Path]] = {
        "cp": ["cp", "--reflink=never", *files, out],
        "fmn average": [*fmn, scratch / "average.yaml", "--out", out],
        "fmn mask-fisher": [*fmn, scratch / "mask-fisher.yaml", "--out", out],
    }
    agreement = ""
    if kit:
        without = ["--no-copy-tokenizer", "--no-write-model-card", "--quiet"]
        commands["mergekit linear"] = [kit, scratch / "linear.yaml", out, *without]
        run(commands["mergekit linear"])
        difference = max(largest_differences(files, out))
        agreement = f"largest difference of fmn's and mergekit's weights: {difference:.1e}\n"
        shutil.rmtree(out)
    inputs = [*files, *(model / "model.safetensors" for model in models)]
    seconds = interleaved(
        {name: timed_process(command, inputs, out) for name, command in commands.items()}, repeats
    )
    rows = [
        (
            name,
            median(took),
            *(
                ratio(took, seconds[other]) if other in seconds else ""
                for other in ("cp", "mergekit linear")
            ),
        )
        for name, took in seconds.items()
    ]
    size = sum(file.stat().st_size for file in files) / 1e6
    largest = max(tensor.nbytes for file in files for tensor in checkpoint.read(file)[0].values())
    megabytes = [
        (f"fmn {name}, peak anonymous", f"{peak / 1e6:.0f}") for name, peak in memory.items()
    ]
    megabytes.append(("largest tensor", f"{largest / 1e6:.0f}"))
    title = (
        f"merging two models, {size:.0f} MB of weights; medians of {repeats}, ratios within a "
        "round (range)"
    )
    times = table(title, ("", "seconds", "/ cp", "/ mergekit"), rows)
    return "\n".join([times, table("memory", ("", "MB"), megabytes), agreement])


def make_checkpoint(path: Path, shape: str, seed: int) -> Path:
    """Write random weights under the names and shapes that transformers gives them.

    What is there already is kept.
    """
    if (path / "config.json").exists():  # written last
        return path
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    config = BertConfig(
        **SHAPES["tiny" if shape == "tiny" else f"bert-{shape}"],
        architectures=["BertForSequenceClassification"],
    )
    with torch.device("meta"):
        tensors = BertForSequenceClassification(config).state_dict()
    specs = {name: TensorSpec(FLOAT32, tuple(tensor.shape)) for name, tensor in tensors.items()}
    rng = np.random.default_rng(seed)
    with SafetensorsWriter(path / "model.safetensors", specs) as writer:
        for name, spec in specs.items():
            writer.write(name, rng.standard_normal(spec.shape, FLOAT32))
    sizes = {"attention": config.num_attention_heads, "feed_forward": config.intermediate_size}
    MaskFisher(
        nodes={
            (layer, kind): torch.from_numpy(rng.random(size, FLOAT32))
            for layer in range(config.num_hidden_layers)
            for kind, size in sizes.items()
        },
        examples=128,
        labels="true",
        model_type="bert",
    ).save(path / "mask.fisher")
    config.save_pretrained(path)
    return path


def write_configurations(folder: Path, models: Sequence[Path]) -> None:
    """Write fmn's recipes and mergekit's configuration.

    The recipes are ``average.yaml`` and ``mask-fisher.yaml``; the configuration is ``linear.yaml``.
    """
    average = [{"model": str(model), "task": model.name} for model in models]
    masked = [entry | {"fisher": f"{entry['model']}/mask.fisher"} for entry in average]
    linear = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    for name, content in (
        ("average", {"method": "average", "models": average}),
        ("mask-fisher", {"method": "mask-fisher", "models": masked}),
        ("linear", {"merge_method": "linear", "dtype": "float32", "models": linear}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def mergekit(venv: Path) -> Path:
    """Return mergekit's program, installed into that virtual environment if it is not there."""
    program = venv / "bin" / "mergekit-yaml"
    if not program.exists():
        print(f"installing {MERGEKIT} into {venv} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [
            venv / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-c",
            CONSTRAINTS,
        ]
        for package in ("torch", MERGEKIT):  # torch by itself: a CPU build where there is one
            subprocess.run([*pip, package], check=True)
    return program


def timed_process(
    command: Sequence[str | Path], inputs: Sequence[Path], out: Path
) -> Callable[[], float]:
    """Return a case that runs the command with its inputs in the page cache.

    The case also removes what the command wrote.
    """

    def case() -> float:
        for file in inputs:
            with file.open("rb") as stream:
                while stream.read(2**24):
                    pass
        os.sync()
        start = time.perf_counter()
        run(command)
        took = time.perf_counter() - start
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        return took

    return case


def run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")


def peak_anonymous(command: Sequence[str | Path]) -> int:
    """Run the command; return the most anonymous memory, in bytes, that it was seen to have."""
    peak = 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                peak = max(
                    [
                        peak,
                        *(
                            int(line.split()[1]) * 1024
                            for line in lines
                            if line.startswith("Anonymous:")
                        ),
                    ]
                )
            time.sleep(0.01)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(errors.read().decode())
    return peak


def largest_differences(files: Sequence[Path], out: Path) -> Iterator[float]:
    """Iterate over the largest absolute difference of each tensor of ours from mergekit's."""
    theirs = {
        name: tensor
        for file in out.glob("*.safetensors")
        for name, tensor in checkpoint.read(file)[0].items()
    }
    for file in files:
        for name, tensor in checkpoint.read(file)[0].items():
            yield float(np.abs(tensor - theirs[name]).max())


if __name__ == "__main__":
    main()
