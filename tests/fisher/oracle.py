"""The Fishers again, slow and obvious: explicit mask tensors, one example and one label at a time,
float64 autograd.

A mask node on an input of a linear layer is a factor on that column of its weight, one on W x is a
factor on that row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from fmn.recipe import PAPER_NODES
from tests.families import FAMILIES, head_of


def log_likelihoods(
    model, batch: dict[str, Tensor], logits: Tensor, labels: str
) -> list[tuple[Tensor, Tensor]]:
    """(weight, log-likelihood) of every label, or sequence of labels, that the Fisher is taken
    over; one example."""
    if logits.dim() == 2 and logits.shape[1] == 1:
        if labels == "true":
            return [(torch.tensor(1.0), -functional.mse_loss(logits.reshape(-1), batch["labels"]))]
        # y ~ N(f, 1/2): three-point Gauss-Hermite quadrature integrates the square of the score
        # exactly
        nodes, weights = (
            torch.tensor([-(1.5**0.5), 0.0, 1.5**0.5]),
            torch.tensor([1 / 6, 2 / 3, 1 / 6]),
        )
        targets = logits.detach().reshape(-1) + nodes.double()
        return [
            (w, -functional.mse_loss(logits.reshape(-1), y[None]))
            for w, y in zip(weights.double(), targets, strict=True)
        ]
    if logits.dim() == 2:
        logits, true = logits[None], batch["labels"][None]
    else:
        true = batch["labels"]
        if head_of(model) == "CausalLM":
            logits, true = logits[:, :-1], true[:, 1:]
    logs = torch.log_softmax(logits[0][true[0] != -100], -1)
    chosen = true[0][true[0] != -100]
    if labels == "true":
        return [(torch.tensor(1.0), logs[range(len(chosen)), chosen].mean())]
    sequences = itertools.product(range(logs.shape[-1]), repeat=len(chosen))
    picked = [logs[range(len(chosen)), list(sequence)] for sequence in sequences]
    return [(log.sum().exp().detach(), log.mean()) for log in picked]


VALUES = {
    ".attention.output.dense": ".attention.self.value|.attention.self.value_proj"
    "|.attention.attention.value",
    ".attention.o_proj": ".attention.v_proj",
    ".attention.out_lin": ".attention.v_lin",
    ".attention.attn.o": ".attention.attn.v",
    ".attn.Wo": ".attn.Wqkv",
    ".attn.c_proj": ".attn.c_attn",
    ".attention.dense": ".attention.query_key_value",
    ".self_attn.o_proj": ".self_attn.v_proj|.self_attn.qkv_proj",
    ".self_attn.out_proj": ".self_attn.v_proj",
    ".encoder_attn.out_proj": ".encoder_attn.v_proj",
    ".SelfAttention.o": ".SelfAttention.v",
    ".EncDecAttention.o": ".EncDecAttention.v",
}
"""From what the output projection of an attention is called to what its values' is called."""


KEYS = {"value": "key", "value_proj": "key_proj", "v_proj": "k_proj", "v_lin": "k_lin", "v": "k"}
"""From what the projection of values is called, where it is one by itself, to that of keys."""
FUSED, WOVEN = ("Wqkv", "qkv_proj", "c_attn"), "query_key_value"


class Masks:
    """All-one masks that require gradients, on a model's weights."""

    def __init__(self, model, name: str, placement: str, nodes: Collection[str] = PAPER_NODES):
        self.family, self.parameters = FAMILIES[name], dict(model.named_parameters())
        prefix = f"{self.family.prefix}."
        self.prefix = prefix if any(each.startswith(prefix) for each in self.parameters) else ""
        self.made: dict[tuple[str, int], Tensor] = {}
        self.places: list[tuple[tuple[str, int], str, int, Spread]] = []
        layer = 0
        for stack in self.family.stacks:
            for number in range(stack.layers):
                self.put_on_layer(layer, stack, number, placement, nodes)
                layer += 1

    def put_on_layer(self, layer: int, stack, number: int, placement: str, nodes) -> None:
        groups = self.family.groups or stack.heads
        blocks = {"attention": stack.out, "cross_attention": stack.cross}
        for part, out in ((part, self.find(out, number)) for part, out in blocks.items() if out):
            width = self.parameters[f"{out}.weight"].shape[int(not self.family.transposed)]
            self.put((part, layer), out, "inputs", stack.heads)
            if "output-columns" in nodes:
                self.put((f"{part}_columns", layer), out, "inputs", width)
            end = next(end for end in VALUES if out.endswith(end))
            start = out.removesuffix(end)
            value = self.find("|".join(start + each for each in VALUES[end].split("|")), number)
            woven, fused = value.endswith(WOVEN), value.endswith(FUSED)
            spread = of_values if fused else woven_values if woven else repeated
            if "value-heads" in nodes:
                self.put((f"{part}_values", layer), value, "outputs", groups, spread)
            if "kv-groups" in nodes:
                spread = of_both if fused else woven_both if woven else repeated
                self.put((f"{part}_groups", layer), value, "outputs", groups, spread)
                if spread is repeated:
                    key = value.removesuffix(value.split(".")[-1]) + KEYS[value.split(".")[-1]]
                    self.put((f"{part}_groups", layer), key, "outputs", groups)
            self.put_on_output(part, layer, out, nodes)
        second = self.find(stack.second, number)
        if placement == "before-activation":
            first = self.find(stack.first, number)
            self.put(("feed_forward", layer), first, "rows", stack.neurons, padded_after)
        else:
            self.put(("feed_forward", layer), second, "inputs", stack.neurons)
        self.put_on_output("feed_forward", layer, second, nodes)

    def put_on_output(self, part: str, layer: int, module: str, nodes) -> None:
        hidden = self.parameters[f"{module}.weight"].shape[int(self.family.transposed)]
        if "residual-channels" in nodes:
            self.put((f"{part}_channels", layer), module, "outputs", hidden)
        if "layers" in nodes:
            self.put(("layer", layer), module, "outputs", 1)

    def find(self, alternatives: str, number: int) -> str:
        """The full name of the one of these modules that the model has."""
        names = [each.format(number) for each in alternatives.split("|")]
        prefixed = [name if name.startswith(self.prefix) else self.prefix + name for name in names]
        return next(name for name in prefixed if f"{name}.weight" in self.parameters)

    def put(
        self, key: tuple[str, int], module: str, side: str, count: int, spread: Spread = None
    ) -> None:
        """A mask on what goes into a module, or what comes out; "rows": without its bias."""
        self.made.setdefault(key, torch.ones(count, dtype=torch.float64, requires_grad=True))
        axis = int((side == "inputs") != self.family.transposed)
        self.places.append((key, f"{module}.weight", axis, spread or repeated))
        if side == "outputs" and f"{module}.bias" in self.parameters:
            self.places.append((key, f"{module}.bias", 0, spread or repeated))

    def weights(self) -> dict[str, Tensor]:
        """The parameters that have masks, times these."""
        weights: dict[str, Tensor] = {}
        for key, name, axis, spread in self.places:
            weight = weights.get(name, self.parameters[name].detach())
            factor = spread(self.made[key], weight.shape[axis], self)
            weights[name] = weight * (factor if axis == weight.dim() - 1 else factor[:, None])
        return weights


Spread = Callable[[Tensor, int, Masks], Tensor]
"""From a mask and the length of an axis to the factor along it."""


def repeated(mask: Tensor, length: int, masks: Masks) -> Tensor:
    return mask.repeat_interleave(length // len(mask))


def padded_after(mask: Tensor, length: int, masks: Masks) -> Tensor:
    """Where gate and up are one matrix: the rows of up have none."""
    return torch.cat([mask, torch.ones(length - len(mask))])


def of_values(mask: Tensor, length: int, masks: Masks) -> Tensor:
    """Where query, key and value are one matrix, one below the other."""
    return of_both(mask, length, masks, torch.ones_like(mask))


def of_both(mask: Tensor, length: int, masks: Masks, key: Tensor | None = None) -> Tensor:
    """The same, with the keys."""
    queries = torch.ones(masks.family.stacks[0].heads)
    whole = torch.cat([queries, mask if key is None else key, mask])
    return whole.repeat_interleave(length // len(whole))


def woven_values(mask: Tensor, length: int, masks: Masks) -> Tensor:
    """Where each head has its query, key and value one after the other."""
    return woven_both(mask, length, masks, torch.ones_like(mask))


def woven_both(mask: Tensor, length: int, masks: Masks, key: Tensor | None = None) -> Tensor:
    """The same, with the keys."""
    parts = [torch.ones_like(mask), mask if key is None else key, mask]
    each = torch.stack(parts, 1).reshape(-1)
    return each.repeat_interleave(length // len(each))


def scores(model, batch, labels: str, weights: dict[str, Tensor], wanted: list[Tensor]):
    """Iterate over (weight, gradients of the log-likelihood) for one example."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    if head_of(model) == "ConditionalGeneration":  # each token is predicted from those before it
        start = torch.tensor([[model.config.decoder_start_token_id]])
        before = batch["labels"][:, :-1]
        inputs["decoder_input_ids"] = torch.cat(
            [start, before.where(before != -100, model.config.pad_token_id)], 1
        )
    logits = functional_call(model, weights, (), inputs).logits
    for weight, log_likelihood in log_likelihoods(model, batch, logits, labels):
        yield (
            weight,
            torch.autograd.grad(log_likelihood, wanted, retain_graph=True, allow_unused=True),
        )


def mask_fisher(
    model,
    name: str,
    batches,
    *,
    labels="true",
    placement="after-activation",
    nodes: Collection[str] = PAPER_NODES,
) -> dict[tuple[str, int], Tensor]:
    """The mask Fisher: keys (kind, layer); groups of heads too where the family has them."""
    masks = Masks(model, name, placement, nodes)
    made = masks.made
    groups = FAMILIES[name].groups
    totals: dict[tuple[str, int], Tensor] = {}
    for batch in batches:
        for weight, gradients in scores(model, batch, labels, masks.weights(), list(made.values())):
            named = dict(zip(made, gradients, strict=True))
            if groups:
                heads = {
                    layer: gradient
                    for (part, layer), gradient in named.items()
                    if part == "attention"
                }
                named |= {
                    ("key_value", layer): gradient.reshape(groups, -1).sum(1)
                    for layer, gradient in heads.items()
                }
            for key, gradient in named.items():
                totals[key] = totals.get(key, 0) + weight * gradient**2 / len(batches)
    return totals


def diagonal_fisher(model, batches, *, labels="expected") -> dict[str, Tensor]:
    """The full diagonal: full parameter name to squared gradients."""
    parameters = dict(model.named_parameters())
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for batch in batches:
        for weight, gradients in scores(model, batch, labels, {}, list(parameters.values())):
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    totals[name] += weight * gradient**2 / len(batches)
    return totals
