"""How far fmn's merges are from mergekit's, method by method, on the same checkpoints in float32.

mergekit is an independent program, run in a virtual environment of its own (as for ``merge.py``).
Where the two mean different things by a setting, the settings that make them mean the same are
used, and a second line shows what they come to without:

- ties: peft, and so fmn, elects signs before λ is applied and divides by the number of models that
  agree; mergekit elects them after, and divides by the sum of their λ (``normalize``). With λ = 1
  that is the same.
- task_arithmetic, dare_linear: mergekit divides by the sum of λ unless ``normalize: false``.
- dare_*, della: masks are random, and each program draws its own, so merges are compared with
  density 1, where nothing is dropped. Of a lower density the second table has the share of values
  that is kept, and how much larger what is kept becomes: fmn divides by the probability that it is
  kept, as the papers do; mergekit brings each task vector back to the L1 norm that it had.
  mergekit's epsilon of della is half of fmn's, which is the paper's.
- breadcrumbs: mergekit divides by the sum of λ unless ``normalize: false``.
- slerp: mergekit takes t from the first model, fmn the second one's share of λ.
- model_stock: mergekit lets t be negative where fine-tunes point away from each other; fmn takes 0,
  the parent, there. mergekit takes 1e-6 for products of norms below that, as small tensors have.
  Such tensors are left out. It asks for three models.
- ties: where several values are equal to the smallest that is kept (weights that were float16
  once), the two choose different ones of them, by breadcrumbs mergekit one and fmn all; of a tensor
  of which nothing is to be kept, mergekit keeps one value. Such values are left out.

By default the models are random: a tiny BERT, and three fine-tunes that went different ways from
it, with a part in common. With ``--zoo`` they are three of a zoo's (``parent``, ``sst2``, ``rte``,
``qnli``). Only backbones are compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from _common import SHAPES, table
from merge import mergekit, run
from transformers import BertConfig, BertForSequenceClassification

import fmn
from fmn import checkpoint
from fmn.merging import get_rule

NAMES = ("sst2", "rte", "qnli")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One merge by both.

    Attributes:
        method: of fmn.
        theirs: what mergekit calls it.
        weights: λ; its length says how many models are merged.
        parameters: fmn's parameters.
        settings: mergekit's, for all models.
        each: mergekit's, for each model; its weights are λ unless it has others.
        note: what the line is for.
    """

    method: str
    theirs: str
    weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    parameters: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    each: dict[str, float] = field(default_factory=dict)
    note: str = ""


CASES = (
    Case("average", "linear", (1.0, 2.0, 0.5), settings={"normalize": True}),
    Case(
        "task-arithmetic",
        "task_arithmetic",
        (1.0, 2.0, 0.5),
        {"scale": 0.4},
        {"normalize": False, "lambda": 0.4},
    ),
    Case(
        "ties",
        "ties",
        parameters={"density": 0.2},
        settings={"normalize": True},
        each={"density": 0.2},
    ),
    Case(
        "ties",
        "ties",
        parameters={"density": 0.7, "scale": 0.5},
        settings={"lambda": 0.5},
        each={"density": 0.7},
    ),
    Case(
        "ties",
        "ties",
        (1.0, 2.0, 0.5),
        {"density": 0.2},
        each={"density": 0.2},
        note="unequal λ mean different things",
    ),
    Case(
        "dare-linear",
        "dare_linear",
        (1.0, 2.0, 0.5),
        {"density": 1, "scale": 0.4},
        {"normalize": False, "lambda": 0.4},
    ),
    Case("dare-ties", "dare_ties", parameters={"density": 1}, settings={"normalize": True}),
    Case(
        "della",
        "della",
        parameters={"density": 1, "epsilon": 0, "scale": 0.5},
        settings={"normalize": True, "lambda": 0.5},
    ),
    Case(
        "breadcrumbs",
        "breadcrumbs",
        (1.0, 2.0, 0.5),
        {"density": 0.9, "outliers": 0.01, "scale": 0.4},
        {"normalize": False, "lambda": 0.4},
        {"density": 0.9, "gamma": 0.01},
    ),
    Case("slerp", "slerp", (3.0, 1.0), settings={"t": 0.25}),
    Case("model-stock", "model_stock"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, help="a directory with parent, sst2, rte and qnli [random models]"
    )
    parser.add_argument(
        "--mergekit-venv", type=Path, help="where mergekit is, or is put [a temporary directory]"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        program = mergekit((args.mergekit_venv or work / "mergekit").absolute())
        models = with_heads(args.zoo, work) if args.zoo else random_models(work)
        parent = checkpoint.open_checkpoint(models["parent"]).tensors
        rows = [
            row(case, models, parent, program, work / f"case{number}")
            for number, case in enumerate(CASES)
        ]
        print(
            table(
                "fmn and mergekit",
                ("fmn", "λ", "parameters", "mergekit's settings", *HEADINGS, ""),
                rows,
            )
        )
        print(
            table(
                "what is kept of one model, density 0.3",
                ("", "", "share kept", "of the larger half of each row", "times as large"),
                [each for case in DROPPING for each in dropped(case, models, program, work)],
            )
        )


HEADINGS = ("largest difference / largest weight, by tensor", "/ largest change", "values compared")


def row(
    case: Case, models: Mapping[str, Path], parent: Arrays, program: Path, scratch: Path
) -> tuple[object, ...]:
    ours, theirs = by_fmn(case, models), by_mergekit(case, models, program, scratch)
    tuned = [
        checkpoint.open_checkpoint(models[name]).tensors for name in NAMES[: len(case.weights)]
    ]
    worst, changed, compared = 0.0, 0.0, 0
    for name, tensor in ours.items():
        same = comparable(
            case, [opened[name].astype(np.float64) - parent[name] for opened in tuned]
        )
        compared += int(same.sum())
        difference = float(np.abs(tensor - theirs[name])[same].max(initial=0.0))
        worst = max(worst, difference / np.abs(tensor).max() if difference else 0.0)
        changed = max(
            changed, difference / np.abs(tensor - parent[name]).max() if difference else 0.0
        )
    settings = ", ".join(
        f"{name} {value}" for name, value in {**case.settings, **case.each}.items()
    )
    parameters = ", ".join(f"{name} {value}" for name, value in case.parameters.items())
    measured = (
        f"{worst:.1e}",
        f"{changed:.1e}",
        f"{100 * compared / sum(tensor.size for tensor in ours.values()):.3f} %",
    )
    return (
        case.method,
        ", ".join(f"{weight:g}" for weight in case.weights),
        parameters,
        settings,
        *measured,
        case.note,
    )


def comparable(case: Case, vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Return for which values of a parameter the two programs mean the same.

    That is with these task vectors, and whatever the settings.
    """
    same = np.ones(vectors[0].shape, bool)
    if case.method == "ties":
        kept = int(case.parameters["density"] * same.size)
        for magnitudes in (np.abs(vector.astype(np.float32)) for vector in vectors):
            ordered = np.sort(magnitudes.ravel())[::-1]
            if not kept or (kept < same.size and ordered[kept - 1] == ordered[kept] != 0):
                same &= magnitudes != ordered[max(kept - 1, 0)]
    if case.method == "breadcrumbs":
        outliers, density = case.parameters["outliers"], case.parameters["density"]
        same &= is_no_edge([vector.astype(np.float32) for vector in vectors], outliers, density)
    if case.method == "model-stock":
        norms = [np.linalg.norm(vector) for vector in vectors]
        pairs = [
            ((one * other).sum(), norms[i] * norms[j])
            for (i, one), (j, other) in combinations(enumerate(vectors), 2)
        ]
        same[...] = not any(norms) or (
            all(norm >= 1e-6 for _, norm in pairs) and sum(dot / norm for dot, norm in pairs) >= 0
        )
    return same


def is_no_edge(vectors: Sequence[np.ndarray], outliers: float, density: float) -> np.ndarray:
    """Tell of which values breadcrumbs may not keep one and leave another out that is equal."""
    result = np.ones(vectors[0].shape, bool)
    left_out = int(outliers * result.size)
    kept = min(int(density * result.size), result.size - left_out)
    for sizes in map(np.abs, vectors):
        ordered = np.sort(sizes, axis=None)[::-1]
        for edge in (left_out, left_out + kept):
            if 0 < edge < sizes.size and ordered[edge - 1] == ordered[edge] != 0:
                result &= sizes != ordered[edge]
    return result


def by_fmn(case: Case, models: Mapping[str, Path]) -> Arrays:
    weights = dict(zip(NAMES, case.weights, strict=False))
    needs = get_rule(case.method).parent
    return fmn.merge(
        {name: models[name] for name in weights},
        method=case.method,
        weights=weights,
        parent=models["parent"] if needs else None,
        **case.parameters,
    ).backbone


def by_mergekit(case: Case, models: Mapping[str, Path], program: Path, scratch: Path) -> Arrays:
    weights = dict(zip(NAMES, case.weights, strict=False))
    entries = [
        {"model": str(models[name]), "parameters": {"weight": weight, **case.each}}
        for name, weight in weights.items()
    ]
    config: dict[str, Any] = {"merge_method": case.theirs, "dtype": "float32", "models": entries}
    if case.settings:
        config["parameters"] = case.settings
    if case.method == "slerp":
        config["base_model"] = str(models[NAMES[0]])
    elif case.method != "average":
        config["base_model"] = str(models["parent"])
    scratch.mkdir()
    (scratch / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run(
        [
            program,
            scratch / "config.yaml",
            scratch / "out",
            "--no-copy-tokenizer",
            "--no-write-model-card",
            "--quiet",
        ]
    )
    files = sorted((scratch / "out").glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in checkpoint.read(file)[0].items()}


DROPPING = (
    Case(
        "dare-linear",
        "dare_linear",
        (1.0,),
        {"density": 0.3, "scale": 1.0},
        {"normalize": False},
        {"density": 0.3},
    ),
    Case(
        "della",
        "della",
        (1.0,),
        {"density": 0.3, "epsilon": 0.2},
        {"normalize": True},
        {"density": 0.3, "epsilon": 0.1},
    ),
)


def dropped(
    case: Case, models: Mapping[str, Path], program: Path, work: Path
) -> Iterator[tuple[object, ...]]:
    """Measure what is left of a task vector, over tensors large enough for shares to be figures."""
    parent, model = (
        checkpoint.open_checkpoint(models[name]).tensors for name in ("parent", NAMES[0])
    )
    larger = 0.3 + case.parameters.get("epsilon", 0) / 4
    times = f"{1 / 0.3:.4f}" if case.method == "dare-linear" else ""
    yield case.method, "expected", "0.3000", f"{larger:.4f}", times
    for program_name, merged in (
        ("fmn", by_fmn(case, models)),
        ("mergekit", by_mergekit(case, models, program, work / case.method)),
    ):
        measured = []
        for name, tensor in merged.items():
            vector = np.atleast_2d(model[name].astype(np.float64) - parent[name])
            left = np.atleast_2d(tensor.astype(np.float64) - parent[name])
            if np.count_nonzero(vector) < 1000:
                continue
            sizes = np.abs(vector)
            large = (sizes > np.median(sizes, axis=-1, keepdims=True)) & (sizes > 0)
            measured.append(
                (
                    np.count_nonzero(left[vector != 0]) / np.count_nonzero(vector),
                    np.count_nonzero(left[large]) / large.sum(),
                    np.abs(left[left != 0]).sum() / sizes[left != 0].sum(),
                )
            )
        yield (
            case.method,
            program_name,
            *(
                f"{np.mean(each):.4f} ({min(each):.4f} to {max(each):.4f})"
                for each in zip(*measured, strict=True)
            ),
        )


def random_models(work: Path, names: Sequence[str] = NAMES) -> dict[str, Path]:
    """Write a tiny parent and fine-tunes of it, as transformers does."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SHAPES["tiny"]))
    model.save_pretrained(work / "parent")
    origin = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    common = {
        name: torch.randn_like(tensor) * 0.005
        for name, tensor in origin.items()
        if tensor.is_floating_point()
    }
    for name in names:
        model.load_state_dict(
            {**origin, **{n: origin[n] + c + torch.randn_like(c) * 0.01 for n, c in common.items()}}
        )
        model.save_pretrained(work / name)
    return {name: work / name for name in ("parent", *names)}


def with_heads(zoo: Path, work: Path) -> dict[str, Path]:
    """Give the parent of a zoo a task head.

    Without one, mergekit takes it for another kind of model.
    """
    models = {name: zoo / name for name in NAMES}
    opened, tuned = (
        checkpoint.open_checkpoint(place) for place in (zoo / "parent", models[NAMES[0]])
    )
    tensors = {
        name: opened.tensors.get(name.removeprefix("bert."), tensor)
        for name, tensor in tuned.tensors.items()
    }
    models["parent"] = work / "parent"
    models["parent"].mkdir()
    checkpoint.write(models["parent"] / "model.safetensors", tensors)
    (models["parent"] / "config.json").write_text(json.dumps(tuned.config), encoding="utf-8")
    for file in tuned.tokenizer_files():
        (models["parent"] / file.name).write_bytes(file.read_bytes())
    return models


if __name__ == "__main__":
    main()
