"""How much fitting a merge's layers costs, in units of a forward pass over the same batches.

For so many models of one shape, each with its own examples in batches of 32, in turn:

- forward: one pass of each model over its examples, under ``torch.inference_mode``;
- fit: ``fmn.layerwise.fit_layers`` of the mean of the models, with everything that it checks and
  sets up;
- solves: what of it goes into eigenvectors and ridges, however many examples there are.

"passes" is (fit - solves) / forward: the median over rounds, with the range. A pass of each model
and one of the merge over the same examples make 2, the rest are products of activations; the aim
is 4 (M + 1) / M of M models.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from _common import (
    SHAPES,
    device_name,
    interleaved,
    median,
    random_examples,
    random_model,
    ratio,
    table,
    timed,
)

from fmn.layerwise import Expert, Regression, fit_layers, fitting


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=32, help="of each model")
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--shape", choices=SHAPES, default="bert-base")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny shape: does it run at all?")
    args = parser.parse_args()
    if args.quick:
        args.examples, args.models, args.shape, args.repeats = 8, [2], "tiny", 1
    print(f"{args.examples} examples a model; {args.shape}; {device_name()}\n")
    rows = [row(count, args.shape, args.examples, args.repeats) for count in args.models]
    print(table("layerwise", ("models", "forward s", "fit s", "solves s", "passes"), rows))


def row(count: int, shape: str, examples: int, repeats: int) -> tuple[object, ...]:
    models = [moved(random_model(shape), seed) for seed in range(count)]
    mean = copy.deepcopy(models[0])
    for parameter, *each in zip(*(m.parameters() for m in (mean, *models)), strict=True):
        parameter.data = sum(other.data for other in each) / count
    batches = [
        [batch for _, batch in random_examples(examples, 1000, seed).batches(32)]
        for seed in range(count)
    ]
    solves: list[float] = []

    def fitted() -> float:
        experts = [
            Expert(str(number), model, copy.deepcopy(mean), each)
            for number, (model, each) in enumerate(zip(models, batches, strict=True))
        ]
        spent = [0.0]
        with patch.object(fitting, "fit", counting(fitting.fit, spent)):
            took = timed(lambda: fit_layers(experts, Regression()))()
        solves.append(spent[0])
        return took

    seconds = interleaved(
        {"forward": timed(lambda: run(models, batches)), "fit": fitted}, repeats, warm_up=0
    )
    rest = [took - spent for took, spent in zip(seconds["fit"], solves, strict=True)]
    times = [median(each) for each in (seconds["forward"], seconds["fit"], solves)]
    return count, *times, ratio(rest, seconds["forward"])


def moved(model: Any, seed: int) -> Any:
    """Return a model as if it were a fine-tune of another."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model


def run(models: list[Any], batches: list[list[Any]]) -> None:
    with torch.inference_mode():
        for model, each in zip(models, batches, strict=True):
            for batch in each:
                model(**{name: value for name, value in batch.items() if name != "labels"})


def counting(work: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def counted(*args: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*args, **named)
        finally:
            spent[0] += time.perf_counter() - start

    return counted


if __name__ == "__main__":
    main()
