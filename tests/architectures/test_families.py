"""What a description says the nodes govern is what they multiply: perturb it, and look where the
forward pass changes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fmn import architectures
from fmn.architectures import Architecture, Block, Layer, Slices
from fmn.fisher.session import describe
from tests.families import FAMILIES, examples, in_checkpoints, tiny


class Subject:
    """A tiny model, its description, and what it computes."""

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name
        self.model: nn.Module = tiny(name, **settings)
        self.description: Architecture = architectures.get(name)
        subject = describe(self.model)
        self.layers, self.parameters, self.modules = (
            subject.layers,
            subject.parameters,
            subject.modules,
        )
        (example,) = examples(self.model, 1)
        labels = example.pop("labels")
        if getattr(self.model.config, "is_encoder_decoder", False):
            example["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(
                labels.clamp(min=4)
            )
        self.example = example
        if name == "olmo2":
            # its norms over the queries (or keys) of all heads divide every head by a number that
            # any row changes a little:
            # without that, a row is its head's alone
            for path, module in self.modules.items():
                if path.endswith((".q_norm", ".k_norm")):
                    module.forward = lambda states, weight=module.weight: weight * states

    def last_layers(self) -> list[Layer]:
        """The last layer of each stack."""
        paths = [stack.path for stack in self.description.stacks]
        return [
            [layer for layer in self.layers if layer.prefix.startswith(path)][-1] for path in paths
        ]

    def inputs(self, *sites: str) -> dict[str, Tensor]:
        """Run the example; return the input of each of these modules, [positions, channels]."""
        seen: dict[str, Tensor] = {}

        def watch(site: str) -> torch.utils.hooks.RemovableHandle:
            return self.modules[site].register_forward_pre_hook(
                lambda _, inputs: seen.__setitem__(site, inputs[0][0].clone())
            )

        handles = [watch(site) for site in sites]
        self.logits()
        for handle in handles:
            handle.remove()
        return seen

    def logits(self) -> Tensor:
        with torch.no_grad():
            return self.model(**self.example).logits

    def change(self, layer: Layer, slices: Slices, node: int) -> Iterable[int]:
        """Add noise to what a node governs of one parameter, a row (or column) at a time; undo it
        after each."""
        parameter = self.parameters[slices.parameter]
        assert parameter.shape[slices.axis] == slices.length(layer.sizes)
        for row in slices.rows(layer.sizes)[node].tolist():
            kept = parameter.data.clone()
            part = parameter.data.select(slices.axis, row)
            part += torch.linspace(1, 2, max(part.numel(), 1), dtype=part.dtype).reshape(part.shape)
            yield row
            parameter.data.copy_(kept)

    def there(self, some: Iterable[Slices]) -> list[Slices]:
        """Those slices that this configuration has."""
        return [slices for slices in some if slices.parameter in self.parameters]


@cache
def subject(name: str) -> Subject:
    return Subject(name)


def channels(before: Tensor, after: Tensor) -> set[int]:
    return set((before != after).any(0).nonzero()[:, 0].tolist())


def attentions(family: Subject) -> list[tuple[Layer, Block]]:
    return [
        (layer, block)
        for layer in family.last_layers()
        for block in layer.blocks
        if block.unit == "head"
    ]


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Subject:
    return subject(request.param)


every = pytest.mark.parametrize("family", FAMILIES, indirect=True)


@every
def test_each_query_or_key_row_governs_the_whole_slice_of_its_heads(family: Subject) -> None:
    for layer, block in attentions(family):
        width = layer.sizes.head_channels
        before = family.inputs(block.site, family.layers[0].blocks[0].site)
        for slices in family.there(block.governed):
            heads = layer.sizes.heads // layer.sizes.nodes(slices.unit)  # that share this row
            may_cancel = slices in key_biases(block)
            for node in range(layer.sizes.nodes(slices.unit)):
                own = set(range(node * heads * width, (node + 1) * heads * width))
                for _ in family.change(layer, slices, node):
                    after = family.inputs(*before)
                    first = family.layers[0].blocks[0].site
                    assert torch.equal(before[first], after[first]), "an earlier layer"
                    touched = channels(before[block.site], after[block.site])
                    assert touched <= own if may_cancel else touched == own, slices


def key_biases(block: Block) -> list[Slices]:
    """A bias of the keys adds the same to every score of a query, so softmax takes it away again
    but for rounding.

    (Not where positions rotate the keys; there it may change all of its heads' slices.)
    """
    return [
        slices
        for slices in block.governed[len(block.governed) // 2 :]
        if slices.parameter.endswith(".bias")
    ]


@every
def test_each_value_row_governs_one_channel(family: Subject) -> None:
    for layer, block in attentions(family):
        width = layer.sizes.head_channels
        before = family.inputs(block.site)[block.site]
        for slices in family.there(block.value):
            nodes = layer.sizes.nodes(slices.unit)
            heads = layer.sizes.heads // nodes
            for node in range(nodes):
                touched = [
                    channels(before, family.inputs(block.site)[block.site])
                    for _ in family.change(layer, slices, node)
                ]
                first = node * heads
                assert touched == [
                    {(first + head) * width + c for head in range(heads)} for c in range(width)
                ]


@every
def test_neurons_govern_their_own_activation(family: Subject) -> None:
    for layer in family.last_layers():
        block = layer.blocks[-1]
        before = family.inputs(block.site, family.layers[0].blocks[-1].site)
        for slices in family.there(block.governed):
            for neuron in range(layer.sizes.neurons):
                for _ in family.change(layer, slices, neuron):
                    after = family.inputs(*before)
                    first = family.layers[0].blocks[-1].site
                    assert torch.equal(before[first], after[first]), "an earlier layer"
                    touched = channels(before[block.site], after[block.site])
                    assert touched == {neuron} or (
                        family.name == "t5" and not touched
                    )  # its ReLU may be shut before and after


@every
def test_output_columns_multiply_their_nodes(family: Subject) -> None:
    """Silence a node's columns, or silence the node itself: the model must answer the same."""
    for layer in family.last_layers():
        for block in layer.blocks:
            (slices,) = block.output
            weight, projection = family.parameters[slices.parameter], family.modules[block.site]
            kept, rows = weight.data.clone(), slices.rows(layer.sizes)
            for node, own in enumerate(rows.tolist()):
                weight.data.index_fill_(slices.axis, torch.tensor(own), 0)
                silent_columns = family.logits()
                weight.data.copy_(kept)
                width = rows.shape[1]
                silent_node = muted(family, projection, slice(node * width, (node + 1) * width))
                assert torch.allclose(silent_columns, silent_node, rtol=0, atol=1e-12)


def muted(family: Subject, projection: nn.Module, silent: slice) -> Tensor:
    def mute(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = inputs[0].clone()
        z[..., silent] = 0
        return (z, *inputs[1:])

    with projection.register_forward_pre_hook(mute):
        return family.logits()


@every
def test_the_site_before_the_activation_is_the_first_linear_layer(family: Subject) -> None:
    for layer in family.layers:
        module = family.modules[layer.blocks[-1].pre_activation(family.parameters)]
        assert isinstance(getattr(module, "weight", None), nn.Parameter)


@every
def test_the_backbone_is_all_but_the_task_head(family: Subject) -> None:
    full = {
        name: in_checkpoints(family.name, name)
        for name in family.description.parameters(family.model)
    }
    assert len(full) == len(list(family.model.parameters()))
    assert family.description.backbone(full) == {
        name: short for name, short in full.items() if short
    }
    backbone = family.description.backbone(
        family.model.state_dict()
    )  # has buffers, and copies of tied weights
    tied = {name for name in backbone if family.description.is_tied(name)}
    assert {name: short for name, short in backbone.items() if name not in tied} == {
        n: s for n, s in full.items() if s
    }


@every
def test_every_parameter_of_a_layer_is_in_one_block(family: Subject) -> None:
    """An attention block's prefixes hold all that the attention computes with, and nothing of
    another block."""
    for layer in family.layers:
        for block in layer.blocks:
            named = {slices.parameter for slices in block.slices()}
            assert all(name.startswith(layer.prefix) for name in named)
            for other in layer.blocks[:-1]:
                assert all(name.startswith(other.prefixes) == (other is block) for name in named)
        for prefix in (prefix for block in family.layers[-1].blocks for prefix in block.prefixes):
            assert any(name.startswith(prefix) for name in family.parameters), prefix


@every
def test_the_matrices_of_the_linear_maps_of_layers_and_which_way_round(family: Subject) -> None:
    named = {name: axis for layer in family.layers for name, axis in layer.inputs().items()}
    kinds = {nn.Linear: 1, Conv1D: 0}
    prefixes = tuple(layer.prefix for layer in family.layers)
    assert {
        name: axis
        for name, axis in named.items()
        if name in family.parameters and family.parameters[name].ndim == 2
    } == {
        f"{path}.weight": kinds[type(module)]
        for path, module in family.modules.items()
        if path.startswith(prefixes) and type(module) in kinds
    }


@every
def test_layers_are_found_by_names_alone(family: Subject) -> None:
    layers = family.description.found_layers(family.parameters)
    assert [(layer.number, layer.prefix, layer.blocks) for layer in layers] == [
        (layer.number, layer.prefix, layer.blocks) for layer in family.layers
    ]


def test_every_shipped_family_is_tested() -> None:
    assert set(architectures.known()) == set(FAMILIES) | {
        name for name in ("qwen3",) if name not in transformers.CONFIG_MAPPING
    }


def test_distilroberta_is_a_roberta() -> None:
    model = tiny(
        "roberta", num_hidden_layers=6
    )  # half as many layers as RoBERTa-base, and nothing else
    assert model.config.model_type == "roberta" and len(describe(model).layers) == 6
