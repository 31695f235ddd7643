"""The Fishers again, slow and obvious: explicit mask tensors, one example and one label at a time,
float64 autograd.

A mask node on an input of a linear layer is a factor on that column of its weight, one on W x is a
factor on that row.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

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


def masks(model, name: str, placement: str):
    """All-one masks that require gradients, and the function that puts them on a model's
    weights."""
    family, parameters = FAMILIES[name], dict(model.named_parameters())
    prefix = (
        f"{family.prefix}."
        if any(each.startswith(f"{family.prefix}.") for each in parameters)
        else ""
    )
    made: dict[tuple[str, int], Tensor] = {}
    places: list[
        tuple[tuple[str, int], str, bool]
    ] = []  # the masks, what they multiply, and whether its outputs

    def place(
        part: str, layer: int, alternatives: str, number: int, count: int, outputs: bool = False
    ) -> None:
        candidates = [f"{prefix}{each.format(number)}.weight" for each in alternatives.split("|")]
        made[part, layer] = torch.ones(count, dtype=torch.float64, requires_grad=True)
        places.append(
            ((part, layer), next(each for each in candidates if each in parameters), outputs)
        )

    layer = 0
    for stack in family.stacks:
        for number in range(stack.layers):
            place("attention", layer, stack.out, number, stack.heads)
            if stack.cross:
                place("cross_attention", layer, stack.cross, number, stack.heads)
            before = placement == "before-activation"
            place(
                "feed_forward",
                layer,
                stack.first if before else stack.second,
                number,
                stack.neurons,
                before,
            )
            layer += 1

    def masked_weights() -> dict[str, Tensor]:
        weights = {}
        for key, parameter, outputs in places:
            weight, mask = parameters[parameter].detach(), made[key]
            along_rows = outputs != family.transposed
            length = weight.shape[0 if along_rows else 1]
            ones = torch.ones(
                length - len(mask)
            )  # where gate and up are one matrix: the rows of up
            factor = (
                torch.cat([mask, ones]) if outputs else mask.repeat_interleave(length // len(mask))
            )
            weights[parameter] = weight * (factor[:, None] if along_rows else factor)
        return weights

    return made, masked_weights


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
    model, name: str, batches, *, labels="true", placement="after-activation"
) -> dict[tuple[str, int], Tensor]:
    """The mask Fisher: keys (part, layer); groups of heads too where the family has them."""
    made, masked_weights = masks(model, name, placement)
    groups = FAMILIES[name].groups
    totals: dict[tuple[str, int], Tensor] = {}
    for batch in batches:
        for weight, gradients in scores(
            model, batch, labels, masked_weights(), list(made.values())
        ):
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
