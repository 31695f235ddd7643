"""What every family's description does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import fmn
from fmn.fisher.session import Subject, describe


class FamilySuite:
    """What a description of a family promises, on a small model of it."""

    def model(self) -> Any:
        """Return a small model with a head for classification, with random weights."""
        raise NotImplementedError("say what the model is")

    def example(self, number: int) -> dict[str, Tensor]:
        """Return an example as the model takes it, [1, positions], with ``labels`` [1]."""
        raise NotImplementedError("say what the examples are")

    @pytest.fixture
    def subject(self) -> Subject:
        """The model in float64, with its description held against it."""
        return describe(self.model().double().eval())

    def test_slices_of_one_parameter_do_not_overlap(self, subject: Subject) -> None:
        """Each row, or column, of a parameter belongs to one node at most."""
        for layer in subject.layers:
            taken: dict[tuple[str, int], list[int]] = {}
            for block in layer.blocks:
                for slices in (*block.governed, *block.value, *block.output):
                    if slices.parameter in subject.parameters:
                        rows = slices.rows(layer.sizes).reshape(-1).tolist()
                        taken.setdefault((slices.parameter, slices.axis), []).extend(rows)
            for (name, axis), rows in taken.items():
                assert len(set(rows)) == len(rows), f"two nodes share a row of {name}"
                assert max(rows) < subject.parameters[name].shape[axis], f"{name} has no such row"

    def test_the_mask_fisher_is_that_of_explicit_masks(self, subject: Subject) -> None:
        """Scale each node by an m of its own; the Fisher is the mean of (∂ℓ/∂m)² at m = 1."""
        examples = [self.example(number) for number in range(3)]
        nodes = fmn.mask_fisher(subject.model, examples).nodes
        for layer in subject.layers:
            for block in layer.blocks:
                count = layer.sizes.nodes(block.unit)
                squares = torch.zeros(count, dtype=torch.float64)
                for example in examples:
                    gradient = _explicit(subject, subject.modules[block.site], count, example)
                    squares += gradient.square() / len(examples)
                torch.testing.assert_close(
                    nodes[layer.number, block.part].double(), squares, rtol=1e-5, atol=1e-12
                )

    def test_a_model_merged_with_itself_is_itself(self, subject: Subject) -> None:
        """Averaging it with itself changes no bit, and what comes out runs."""
        model, example = subject.model, self.example(0)
        merged = fmn.merge({"one": model, "other": model}, method="average")["one"]
        inputs = {name: value for name, value in example.items() if name != "labels"}
        with torch.no_grad():
            assert torch.equal(merged(**inputs).logits, model(**inputs).logits)

    def test_a_diagonal_fisher_has_every_parameter_of_the_backbone(self, subject: Subject) -> None:
        """It is found by hooks on the modules that hold the parameters."""
        fisher = fmn.diagonal_fisher(subject.model, [self.example(0)], labels="true").parameters
        optional = subject.architecture.optional
        for name, parameter in subject.parameters.items():
            if not name.startswith(optional) or not optional:
                assert fisher[name].shape == parameter.shape, name
                assert np.isfinite(fisher[name].numpy()).all(), name


def _explicit(
    subject: Subject, site: torch.nn.Module, count: int, example: dict[str, Tensor]
) -> Tensor:
    """Return ∂ℓ/∂m of masks that are really multiplied into what a module reads, [nodes]."""
    mask = torch.ones(count, dtype=torch.float64, requires_grad=True)

    def multiply(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        channels = inputs[0].shape[-1] // count
        return (inputs[0] * mask.repeat_interleave(channels), *inputs[1:])

    handle = site.register_forward_pre_hook(multiply)
    try:
        inputs = {name: value for name, value in example.items() if name != "labels"}
        loss = functional.cross_entropy(subject.model(**inputs).logits, example["labels"])
        (gradient,) = torch.autograd.grad(loss, mask)
    finally:
        handle.remove()
    return gradient
