"""How much the Fishers cost, in units of a forward pass over the same batches.

Timed on 128 examples in batches of 32 of like length, each case in turn, on the same model and
device:

- forward: a pass in evaluation mode under ``torch.inference_mode``; the physical limit of the mask
  Fisher is about twice it;
- mask Fisher: ``fmn.mask_fisher``, with everything that it checks and sets up;
- all nodes: the same with all kinds of nodes that there are; at most 1.3 times the paper's two;
- full diagonal: ``fmn.diagonal_fisher``, the exact expectation over labels;
- naive diagonal: the same numbers (this is checked), one example and one label at a time by
  autograd over all backbone parameters, without padding. On a CPU it runs on a few examples, evenly
  spread over the lengths, and is extrapolated linearly.

Ratios are medians over rounds of the ratio within a round, with their range. Random tokens and
weights, unless --zoo and --data give the real zoo's RTE model and examples. On a GPU also in
bfloat16 and on bert-large, beside the seconds that the paper gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

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
    zoo_examples,
    zoo_model,
)
from torch import Tensor

import fmn
from fmn.evaluation import Encoded
from fmn.recipe import Nodes

# of the mask Fisher of 128 examples: the paper's own figures
PAPER_SECONDS = {"bert-base": 0.96, "bert-large": 4.0}
Batch = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument(
        "--naive-examples", type=int, help="of the naive diagonal [8 on a CPU, all on a GPU]"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="rounds of the forward pass and the mask Fishers"
    )
    parser.add_argument(
        "--slow-repeats", type=int, default=2, help="rounds of the diagonals; 0: none"
    )
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, help="[bert-base and zoo; on a GPU bert-large, too]"
    )
    parser.add_argument("--zoo", type=Path, help="directory with the real zoo's rte")
    parser.add_argument("--data", type=Path, help="directory with rte/train.parquet")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tiny shape, a few examples, one round: does it run at all?",
    )
    args = parser.parse_args()
    if (args.zoo is None) != (args.data is None):
        parser.error("--zoo and --data go together")
    if args.quick:
        args.examples, args.repeats, args.slow_repeats = 16, 1, 1
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{args.examples} examples in batches of 32; {device_name()}; medians, and ratios within a "
        "round (range)\n"
    )
    for name, model, examples in subjects(args, device):
        for dtype in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
            print(measure(name, model.to(device, dtype), examples, args), flush=True)


def subjects(args: argparse.Namespace, device: str) -> Iterator[tuple[str, Any, Encoded]]:
    """Make the models one after the other, each with its examples."""
    usual = (
        ["tiny"]
        if args.quick
        else ["bert-base", *(["bert-large"] if device == "cuda" else []), "zoo"]
    )
    for shape in args.shapes or usual:
        if shape == "zoo" and args.zoo:
            yield (
                "zoo's rte",
                zoo_model(args.zoo),
                zoo_examples(args.zoo, args.data, "train", args.examples),
            )
        else:
            model = random_model(shape)
            yield shape, model, random_examples(args.examples, model.config.vocab_size)


def measure(name: str, model: Any, examples: Encoded, args: argparse.Namespace) -> str:
    """Time every case on one model and return the table."""
    device = model.device
    batches = [to(device, batch) for _, batch in examples.batches(32)]
    count = args.naive_examples or (8 if device.type == "cpu" else len(examples))
    singles = [to(device, batch) for batch in spread(examples, min(count, len(examples)))]
    if model.dtype == torch.float32 and args.slow_repeats:
        check(model, singles)
    forward, mask = lambda: run_forward(model, batches), lambda: fmn.mask_fisher(model, batches)
    full, naive, every = (
        lambda: fmn.diagonal_fisher(model, batches),
        lambda: naive_diagonal(model, singles),
        lambda: fmn.mask_fisher(model, batches, nodes=get_args(Nodes)),
    )
    quick = interleaved(
        {"forward": timed(forward), "mask": timed(mask), "all": timed(every)}, args.repeats
    )
    rows = [
        ("forward", median(quick["forward"]), "1", ""),
        ("mask Fisher", median(quick["mask"]), ratio(quick["mask"], quick["forward"]), "1"),
        (
            "mask Fisher of all nodes",
            median(quick["all"]),
            ratio(quick["all"], quick["forward"]),
            ratio(quick["all"], quick["mask"]),
        ),
    ]
    title = f"{name}, {str(model.dtype).removeprefix('torch.')}"
    header = ("", "seconds", "/ forward", "/ mask Fisher")
    if not args.slow_repeats:
        return table(title, header, rows)
    # on a CPU the check has warmed these up
    warm_up = int(device.type == "cuda")
    slow = interleaved(
        {"mask": timed(mask), "full": timed(full), "naive": timed(naive)},
        args.slow_repeats,
        warm_up,
    )
    whole = [seconds * len(examples) / len(singles) for seconds in slow["naive"]]
    note = "" if len(singles) == len(examples) else f", extrapolated from {len(singles)} examples"
    rows += [
        ("full diagonal", median(slow["full"]), "", ratio(slow["full"], slow["mask"])),
        (f"naive diagonal{note}", median(whole), "", ratio(whole, slow["mask"])),
    ]
    if device.type == "cuda" and name in PAPER_SECONDS:
        rows.append(
            ("mask Fisher, as the paper reports it (its own GPU)", f"{PAPER_SECONDS[name]}", "", "")
        )
    return table(title, header, rows)


def run_forward(model: Any, batches: Iterable[Batch]) -> None:
    with torch.inference_mode():
        for batch in batches:
            model(**{name: tensor for name, tensor in batch.items() if name != "labels"})


def naive_diagonal(model: Any, singles: Iterable[Batch]) -> dict[str, Tensor]:
    """Σ_x Σ_y p(y|x) (∇ log p(y|x))² over the backbone, one example and one label at a time."""
    parameters = dict(model.base_model.named_parameters())
    totals = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for single in singles:
        logits = model(
            **{name: tensor for name, tensor in single.items() if name != "labels"}
        ).logits[0]
        for label, log in enumerate(torch.log_softmax(logits, -1)):
            last = label == len(logits) - 1
            gradients = torch.autograd.grad(log, list(parameters.values()), retain_graph=not last)
            for total, gradient in zip(totals.values(), gradients, strict=True):
                total += log.detach().exp() * gradient**2
    return totals


def spread(examples: Encoded, count: int) -> list[Batch]:
    """Return single examples, evenly spread over the lengths.

    Their mean cost is about that of all examples.
    """
    singles = [batch for _, batch in examples.batches(1)]  # the longest first
    places = [(2 * number + 1) * len(singles) // (2 * count) for number in range(count)]
    return [singles[place] for place in places]


def check(model: Any, singles: list[Batch]) -> None:
    """Make sure that the naive diagonal is what fmn computes."""
    ours = fmn.diagonal_fisher(model, singles).parameters
    naive = {
        name: total.cpu() / len(singles) for name, total in naive_diagonal(model, singles).items()
    }
    # the bias of keys has no gradient but for rounding
    rounding = 1e-7 * max(tensor.norm() for tensor in naive.values())
    for name, expected in naive.items():
        if (ours[name] - expected).norm() > 1e-3 * expected.norm() + rounding:
            raise SystemExit(f"{name}: fmn's diagonal Fisher and the naive one differ")


def to(device: torch.device, batch: Batch) -> Batch:
    return {name: tensor.to(device) for name, tensor in batch.items()}


if __name__ == "__main__":
    main()
