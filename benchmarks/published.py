"""How far fmn's merges are from those of the code that the methods' authors published.

``--code`` is a folder of checked-out copies, each under its repository's name; what is not there is
left out, and named at the end with the command that fetches it. Their functions run unchanged, on
the same weights (``_published.py``). Every merge is made twice, of the models as they are and of
the same values in float64: what is then left are definitions.

Where the two mean different things by a setting, the settings that make them mean the same are
used, and a second line shows what they come to without:

- della: with n values in a row, the paper and fmn raise the probability by epsilon / n from one
  rank to the next, the code by window / (n - 1). Both get fmn's random numbers. The code has its
  probabilities in float32 always.
- breadcrumbs: the paper and fmn rank the values of a tensor, the code those along its last axis.
- consensus-ta: the code asks for more than the threshold, the paper and fmn for as much.
- tsv-m, iso-c: the code takes every matrix for that of a linear map, embeddings too.
- regmean: the code's Gram matrices are means over positions, fmn's over examples, so with examples
  of different lengths the same λ means different things. Here both models read the same ones.
- regmean-free: with ``reduction: 1`` and ``ridge: 0`` fmn has the least of WUDI's objective, which
  the code goes towards in 300 steps of Adam from the sum of the task vectors. The second table has
  the objective of both.

Values that the two may choose differently among are left out: equal ones at the edge of what is
kept (breadcrumbs) or in one row (della), and those so near to a threshold that float32 decides.

By default the models are random: a tiny BERT and two fine-tunes of it. With ``--zoo`` they are two
of a zoo's, ``sst2`` and ``mnli`` with their ``parent``. Only backbones are compared, without the
pooler.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import _published as published
import numpy as np
import torch
from _common import random_examples, table
from _published import Arrays, Settings, Zoo
from agreement import is_no_edge, random_models

import fmn
from fmn import checkpoint
from fmn.evaluation import Encoded
from fmn.merging import Part, get_rule
from fmn.merging.task_vectors import uniform
from fmn.models import load_model

NAMES = ("sst2", "mnli")
COMMITS = {
    "declare-lab/della": "8067515",
    "rezazzr/breadcrumbs": "f89fc66",
    "nik-dim/tall_masks": "d10af8b",
    "AntoAndGar/task_singular_vectors": "a6c9718",
    "danielm1405/iso-merging": "d34010a",
    "bloomberg/dataless-model-merging": "92247ae",
    "nathanielyvo/WUDI-Merging": "dc3cd12",
}
"""By repository, the commit whose files are known."""


@dataclass(frozen=True)
class Case:
    """One merge by both.

    Attributes:
        method: of fmn.
        repository: whose code it is.
        theirs: merges with it.
        parameters: fmn's.
        alike: tells of a parameter for which values both mean the same.
        note: what the line is for.
    """

    method: str
    repository: str
    theirs: Callable[[Path, Zoo, Settings], Arrays]
    parameters: dict[str, float] = field(default_factory=dict)
    alike: Callable[[Zoo, Settings, str], Any] = lambda zoo, parameters, name: True
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--code", type=Path, required=True, help="a folder of checked-out copies")
    parser.add_argument(
        "--zoo", type=Path, help="a directory with parent, sst2 and mnli [random models]"
    )
    args = parser.parse_args()
    there = {name: args.code / name.split("/")[1] for name in COMMITS}
    for name, place in list(there.items()):
        if not place.is_dir():
            told(name, there.pop(name))
    if not there:
        raise SystemExit(f"{args.code} holds no published code; nothing is compared")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        places = (
            {name: args.zoo / name for name in ("parent", *NAMES)}
            if args.zoo
            else random_models(work, NAMES)
        )
        examples = random_examples(32, vocabulary=1000)
        batches = [batch for _, batch in examples.batches(16)]
        models = {name: load_model(places[name]).eval() for name in NAMES}
        grams = {name: fmn.gram_matrices(model, batches) for name, model in models.items()}
        pairs = [Pair(places, grams), Pair(in_float64(places, work / "float64"), grams)]
        rows = [
            row(case, there[case.repository], pairs) for case in CASES if case.repository in there
        ]
        print(table(f"fmn and published code, {' and '.join(NAMES)}", HEADINGS, rows), flush=True)
        if code := there.get("bloomberg/dataless-model-merging"):
            print(table(*of_grams(code, models, grams, examples)))
        if code := there.get("nathanielyvo/WUDI-Merging"):
            print(table(*of_wudi(code, pairs[1])))


def told(repository: str, place: Path) -> None:
    """Say that there is no code of a method, and how to get it."""
    print(
        f"NOT COMPARED: {place} is not there; git clone https://github.com/{repository} {place} && "
        f"git -C {place} checkout {COMMITS[repository]}",
        file=sys.stderr,
    )


class Pair:
    """Two fine-tunes and their parent, as both programs take them."""

    def __init__(self, places: Mapping[str, Path], grams: Mapping[str, Any]) -> None:
        self.places = places
        self.grams = grams
        names = self.by_fmn("average", {})
        opened = {name: checkpoint.open_checkpoint(place) for name, place in places.items()}
        arrays = {
            name: {short: np.array(short_names(each.tensors)[short]) for short in names}
            for name, each in opened.items()
        }
        self.zoo = Zoo(
            parent=arrays["parent"],
            models={name: arrays[name] for name in NAMES},
            digests=tuple(opened[name].digest() for name in NAMES),
            grams=tuple(by_map(grams[name]) for name in NAMES),
        )

    def by_fmn(self, method: str, parameters: Settings) -> Arrays:
        """Return the merged backbone, by names relative to it."""
        rule = get_rule(method)
        merged = fmn.merge(
            {name: self.places[name] for name in NAMES},
            method=method,
            parent=self.places["parent"] if rule.parent else None,
            fishers=self.grams if "gram" in rule.statistics else None,
            **parameters,
        )
        return short_names(merged.backbone)


def short_names(tensors: Arrays) -> Arrays:
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


def by_map(grams: Any) -> Arrays:
    return {
        weight.removesuffix(".weight"): grams.matrices[name].numpy()
        for weight, (name, _) in grams.inputs.items()
    }


def in_float64(places: Mapping[str, Path], work: Path) -> dict[str, Path]:
    """Write the same models with the same values in float64."""
    for name, place in places.items():
        opened = checkpoint.open_checkpoint(place)
        (work / name).mkdir(parents=True)
        tensors = {short: tensor.astype(np.float64) for short, tensor in opened.tensors.items()}
        checkpoint.write(work / name / "model.safetensors", tensors)
        (work / name / "config.json").write_bytes((place / "config.json").read_bytes())
    return {name: work / name for name in places}


HEADINGS = (
    "fmn",
    "parameters",
    "code",
    "largest difference",
    "/ largest change, by tensor",
    "the same in float64",
    "values compared",
    "of these apart by 1 % of the change",
    "",
)


def row(case: Case, code: Path, pairs: list[Pair]) -> tuple[object, ...]:
    print(f"{case.method}: {case.note or 'as both mean it'}", file=sys.stderr, flush=True)
    measured = [compared(case, code, pair) for pair in pairs]
    (difference, relative, *_), (_, in_double, share, apart) = measured
    parameters = ", ".join(f"{name} {value}" for name, value in case.parameters.items())
    return (
        case.method,
        parameters,
        case.repository,
        f"{difference:.1e}",
        f"{relative:.1e}",
        f"{in_double:.1e}",
        f"{100 * share:.4f} %",
        f"{100 * apart:.3g} %",
        case.note,
    )


def compared(case: Case, code: Path, pair: Pair) -> tuple[float, float, float, float]:
    """Return how far the two are apart.

    That is the largest difference, the largest one over the largest change of its tensor, the share
    of values that both mean the same by, and the share of these that are apart by 1 % of the change
    or more.
    """
    settings = get_rule(case.method).settings(case.parameters)
    alike = {name: case.alike(pair.zoo, settings, name) for name in pair.zoo.parent}
    # what is not compared is not merged either: embeddings have the largest matrices
    zoo = pair.zoo.only([name for name in alike if np.any(alike[name])])
    ours, theirs = pair.by_fmn(case.method, settings), case.theirs(code, zoo, settings)
    largest, relative, values, apart = 0.0, 0.0, 0, 0
    for name in zoo.parent:
        tensor = ours[name]
        same = np.broadcast_to(alike[name], tensor.shape)
        differences = np.abs(tensor - theirs[name])[same]
        difference = float(differences.max(initial=0.0))
        change = float(np.abs(tensor - zoo.parent[name]).max())
        largest = max(largest, difference)
        relative = max(relative, difference / change if difference else 0.0)
        values += differences.size
        apart += int((differences > change / 100).sum())
    size = sum(tensor.size for tensor in ours.values())
    return largest, relative, values / size, apart / values


def is_drawn_alike(zoo: Zoo, settings: Settings, name: str) -> np.ndarray:
    """Tell which values have a rank of their own, and a random number that float32 can tell."""
    result = np.ones(zoo.parent[name].shape, bool)
    part = Part(name, (), (), parameters=settings)
    count = result.shape[-1]
    for digest, vector in zip(zoo.digests, zoo.vectors(name), strict=True):
        sizes = np.abs(vector.numpy())
        ordered = np.sort(sizes, axis=-1)
        equal = np.zeros(sizes.shape, bool)
        equal[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
        equal[..., :-1] |= equal[..., 1:]
        order = np.argsort(sizes, axis=-1, kind="stable")
        np.put_along_axis(repeated := np.empty_like(equal), order, equal, axis=-1)
        np.put_along_axis(ranks := np.empty(sizes.shape), order, np.arange(count) + 0.0, axis=-1)
        shares = (ranks + 1) / count - 0.5
        kept = settings["density"] + settings["epsilon"] * shares
        draws = uniform(part, digest, result.shape)
        result &= ~(repeated & (sizes > 0)) & (np.abs(draws - kept) > 1e-6)
    return result


def has_no_equals(zoo: Zoo, settings: Settings, name: str) -> np.ndarray:
    """Tell which values are not equal to others, of which only some are kept."""
    vectors = [vector.numpy() for vector in zoo.vectors(name)]
    return is_no_edge(vectors, settings["outliers"], settings["density"])


def is_clear(zoo: Zoo, settings: Settings, name: str) -> np.ndarray:
    """Tell for which values rounding does not decide whether a model needs them."""
    vectors = [vector.numpy() for vector in zoo.vectors(name)]
    total = sum(vectors, start=np.zeros(()))
    tensors = [zoo.parent[name], *(tuned[name] for tuned in zoo.models.values())]
    rounding = 8 * np.finfo(tensors[0].dtype).eps * np.max(np.abs(tensors), axis=0)
    result = np.ones(total.shape, bool)
    for vector in vectors:
        margin = np.abs(vector) - settings["threshold"] * np.abs(total - vector)
        result &= (np.abs(margin) > rounding) | (total == 0)
    return result


def is_no_embedding(zoo: Zoo, settings: Settings, name: str) -> bool:
    return "embeddings" not in name or zoo.parent[name].ndim != 2


CASES = (
    Case(
        "della",
        "declare-lab/della",
        partial(published.della, same_steps=True),
        {"density": 0.5, "epsilon": 0.1},
        is_drawn_alike,
    ),
    Case(
        "della",
        "declare-lab/della",
        partial(published.della, same_steps=False),
        {"density": 0.5, "epsilon": 0.1},
        note="n - 1 steps of probability in a row of n, not n",
    ),
    Case(
        "breadcrumbs",
        "rezazzr/breadcrumbs",
        partial(published.breadcrumbs, whole=True),
        {"density": 0.2, "outliers": 0.1, "scale": 0.4},
        has_no_equals,
    ),
    Case(
        "breadcrumbs",
        "rezazzr/breadcrumbs",
        partial(published.breadcrumbs, whole=False),
        {"density": 0.2, "outliers": 0.1, "scale": 0.4},
        note="each row by itself",
    ),
    Case(
        "consensus-ta",
        "nik-dim/tall_masks",
        published.consensus,
        {"threshold": 0.4, "agreement": 2},
        is_clear,
    ),
    Case("tsv-m", "AntoAndGar/task_singular_vectors", published.tsv_m, alike=is_no_embedding),
    Case(
        "tsv-m",
        "AntoAndGar/task_singular_vectors",
        published.tsv_m,
        note="embeddings as linear maps",
    ),
    Case("iso-c", "danielm1405/iso-merging", published.iso_c, alike=is_no_embedding),
    Case("iso-c", "danielm1405/iso-merging", published.iso_c, note="embeddings as linear maps"),
    Case("regmean", "bloomberg/dataless-model-merging", published.regmean, {"alpha": 0.9}),
)


def of_grams(
    code: Path, models: Mapping[str, Any], grams: Mapping[str, Any], examples: Encoded
) -> tuple[str, tuple[str, ...], Iterator[tuple[object, ...]]]:
    """Compare Gram matrices of the same examples, one in a batch."""
    batches = [batch for _, batch in examples.batches(1)]
    positions = examples.lengths.mean()

    def rows() -> Iterator[tuple[object, ...]]:
        for name, model in models.items():
            theirs = short_names(published.gram_matrices(code, model, batches))
            apart = [
                np.abs(gram - theirs[each] * positions).max() / np.abs(gram).max()
                for each, gram in by_map(grams[name]).items()
            ]
            yield name, len(apart), f"{max(apart):.1e}"

    title = f"Gram matrices, the code's times {positions:.2f} positions an example"
    return title, ("", "matrices", "largest difference / largest value"), rows()


def of_wudi(code: Path, pair: Pair) -> tuple[str, tuple[str, ...], Iterator[tuple[object, ...]]]:
    """Compare what WUDI's objective comes to, in the first layer's attention."""
    zoo = pair.zoo
    names = [
        name
        for name, origin in zoo.parent.items()
        if name.startswith("encoder.layer.0.attention.self.") and origin.ndim == 2
    ]
    merged = pair.by_fmn("regmean-free", {"reduction": 1.0, "ridge": 0.0})
    ours = {name: torch.from_numpy(merged[name] - zoo.parent[name]) for name in names}
    least = {name: objective(ours[name], zoo.vectors(name)) for name in names}

    def rows() -> Iterator[tuple[object, ...]]:
        for steps in (0, 300, 1000):
            ratios, apart = [], []
            for name in names:
                vectors = zoo.vectors(name)
                step = published.wudi(code, [each.float() for each in vectors], steps).double()
                ratios.append(objective(step, vectors) / least[name])
                apart.append(float((step - ours[name]).norm() / ours[name].norm()))
            yield (
                f"{steps} steps",
                f"{min(ratios):.4g} to {max(ratios):.4g}",
                f"{min(apart):.2g} to {max(apart):.2g}",
            )

    title = "WUDI's objective, queries, keys and values of the first layer"
    return title, ("the code after", "/ fmn's", "distance / fmn's step"), rows()


def objective(step: torch.Tensor, vectors: list[torch.Tensor]) -> float:
    """Return Σ_i ‖(τ - τ_i) τ_iᵀ‖² / ‖τ_i‖²."""
    return float(
        sum(((step - each) @ each.T).square().sum() / each.square().sum() for each in vectors)
    )


if __name__ == "__main__":
    main()
