"""What a mask Fisher of a 7B model costs in memory and time.

The cost is measured at the model's shape with a few layers, and computed for all of them.

A Llama of 4,096 hidden, 32 heads, 11,008 gated neurons and a vocabulary of 32,000, with random
weights, is built with few layers; forward and mask Fisher, plain and with checkpointing, in float32
and bfloat16, run over one batch. Each model has a process of its own; it reports

- memory: the most bytes of tensors that were alive at once, without the loaded model: on a GPU
  torch's own peak; on a CPU every storage is counted in a pass that is not timed (resident memory
  says more of the allocator than of so few layers);
- seconds: the cases in turn, some rounds after one that is not counted: medians, and ratios within
  a round. Forward is a pass under ``torch.inference_mode``.

What n layers cost is a straight line through the smallest and the largest number of layers; from
it, --whole layers are computed, and so is what the weights take. --shape gqa is the shape of
Mistral 7B: 8 key-value heads, 14,336 neurons.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from _common import device_name, interleaved, ratio, table, timed
from _memory import Counted
from transformers import LlamaConfig, LlamaForCausalLM

import fmn

SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "gqa": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
CASES = {"forward": None, "mask Fisher": {}, "mask Fisher, checkpointing": {"checkpointing": True}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4], help="that are measured")
    parser.add_argument("--whole", type=int, default=32, help="layers of the whole model")
    parser.add_argument("--examples", type=int, default=4, help="in the batch")
    parser.add_argument("--tokens", type=int, default=128, help="of each example")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args)))
        return
    tokens = args.examples * args.tokens
    print(
        f"{args.examples} examples of {args.tokens} tokens; {device_name()}; medians of "
        f"{args.repeats}\n"
    )
    for dtype in args.dtypes:
        results = {
            (case, layers): one
            for layers in args.layers
            for case, one in child(args, layers, dtype).items()
        }
        print(measured(results, args, dtype, tokens))
        print(computed(results, args, dtype, tokens), flush=True)


@dataclass(frozen=True)
class Cost:
    """What a case costs.

    Attributes:
        seconds: of every round.
        bytes: above those of the model.
        weights: bytes of the model.
        layer: bytes of one of its layers.
    """

    seconds: list[float]
    bytes: int
    weights: int
    layer: int


def child(args: argparse.Namespace, layers: int, dtype: str) -> dict[str, Cost]:
    """Measure all cases in a process of its own."""
    options = [
        "--child",
        "--layers",
        str(layers),
        "--dtypes",
        dtype,
        "--shape",
        args.shape,
        "--repeats",
        str(args.repeats),
    ]
    options += ["--examples", str(args.examples), "--tokens", str(args.tokens)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {case: Cost(**cost) for case, cost in json.loads(done.stdout).items()}


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return what each case costs."""
    model, batch = make_model(args), make_batch(args)
    works = {case: work_of(case, model, batch) for case in CASES}
    peaks = {case: peak_bytes(work, model.device) for case, work in works.items()}
    seconds = interleaved({case: timed(work) for case, work in works.items()}, args.repeats)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    layer = sum(parameter.nbytes for parameter in model.model.layers[0].parameters())
    return {case: asdict(Cost(seconds[case], peaks[case], weights, layer)) for case in CASES}


def make_model(args: argparse.Namespace) -> Any:
    """Return a Llama with random weights, made in its dtype on its device.

    Nothing larger than the model ever exists.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(**SHAPES[args.shape], num_hidden_layers=args.layers[0], vocab_size=32000)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(getattr(torch, args.dtypes[0]))
    model.to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1)
            else:
                parameter.uniform_(-0.03, 0.03)
    # its buffers are computed from the configuration
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    return model.eval()


def make_batch(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    ids = torch.randint(
        3, 32000, (args.examples, args.tokens), generator=torch.Generator().manual_seed(0)
    )
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def work_of(case: str, model: Any, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    options = CASES[case]
    if options is not None:
        return lambda: fmn.mask_fisher(model, [batch], **options)
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}

    def forward() -> None:
        with torch.inference_mode():
            model(**inputs, use_cache=False)

    return forward


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Do the work; return the most bytes of tensors that it had at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with Counted() as counted:
        work()
    return counted.peak


Found = dict[tuple[str, int], Cost]


def measured(results: Found, args: argparse.Namespace, dtype: str, tokens: int) -> str:
    """Return the table of what was measured."""
    rows = []
    for (case, layers), one in results.items():
        forward, plain = results["forward", layers].seconds, results["mask Fisher", layers].bytes
        ratios = (
            ("1", "")
            if case == "forward"
            else (ratio(one.seconds, forward), f"{one.bytes / plain:.2f}")
        )
        cells = (
            f"{one.weights / 1e9:.2f}",
            f"{one.bytes / 1e9:.2f}",
            f"{1e3 * statistics.median(one.seconds) / tokens:.2f}",
        )
        rows.append((case, layers, *cells, *ratios))
    header = (
        "",
        "layers",
        "weights, GB",
        "memory beside them, GB",
        "ms per token",
        "time / forward",
        "memory / plain",
    )
    return table(f"{args.shape}, {dtype}, measured", header, rows)


def computed(results: Found, args: argparse.Namespace, dtype: str, tokens: int) -> str:
    """Return the table of what follows for the whole model."""
    few, many = min(args.layers), max(args.layers)
    if few == many:
        return ""

    def line(at_few: float, at_many: float) -> tuple[float, float]:
        slope = (at_many - at_few) / (many - few)
        return slope, at_few + slope * (args.whole - few)

    one = results["forward", few]
    weights = one.weights + one.layer * (args.whole - few)
    rows = []
    for case in CASES:
        per_layer, memory = line(results[case, few].bytes, results[case, many].bytes)
        _, seconds = line(
            *(statistics.median(results[case, layers].seconds) for layers in (few, many))
        )
        cells = (
            f"{per_layer / tokens / 1e3:.0f}",
            f"{memory / 1e9:.1f}",
            f"{(memory + weights) / 1e9:.1f}",
        )
        rows.append((case, *cells, f"{1e3 * seconds / tokens:.0f}"))
    header = (
        "",
        "kB per token and layer",
        "memory beside weights, GB",
        "with weights, GB",
        "ms per token",
    )
    return table(
        f"{args.shape}, {dtype}, {args.whole} layers, computed from {few} and {many}", header, rows
    )


if __name__ == "__main__":
    main()
