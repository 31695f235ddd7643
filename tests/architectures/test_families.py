"""What a description says the nodes govern is what they multiply: perturb it, and look where the forward pass changes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from fmn import architectures
from fmn.architectures import Architecture, Sizes, Slices, at_layer
from tests import extra_families
from tests.architectures.conftest import ALL, SHIPPED
from tests.families import tiny

LAYER = 1


@pytest.fixture
def family(request: pytest.FixtureRequest, extra: None) -> Subject:
    return Subject(request.param)


class Subject:
    """A tiny model, its description, and what its second layer computes."""

    def __init__(self, name: str) -> None:
        head = "CausalLM" if name in extra_families.EXTRA else "SequenceClassification"
        self.model: nn.Module = tiny(name, head)
        self.description: Architecture = architectures.get(name)
        config = self.model.config
        self.sizes: Sizes = self.description.sizes(lambda setting: getattr(config, setting, None))
        self.backbone: nn.Module = getattr(self.model, self.description.prefix)
        self.parameters = dict(self.backbone.named_parameters())

    def inputs(self, *sites: str) -> dict[str, Tensor]:
        """Run a fixed example; return the input of each of these modules, [positions, channels]."""
        seen: dict[str, Tensor] = {}

        def watch(site: str) -> torch.utils.hooks.RemovableHandle:
            module = self.backbone.get_submodule(site)
            return module.register_forward_pre_hook(lambda _, inputs: seen.__setitem__(site, inputs[0][0].clone()))

        handles = [watch(site) for site in sites]
        with torch.no_grad():
            self.model(input_ids=torch.tensor([[5, 9, 4, 17, 8, 30]]))
        for handle in handles:
            handle.remove()
        return seen

    def change(self, slices: Slices, node: int) -> Iterable[int]:
        """Add noise to what a node governs of one parameter, a row (or column) at a time; undo it after each."""
        parameter = self.parameters[slices.parameter]
        assert parameter.shape[slices.axis] == slices.length(self.sizes)
        for row in slices.rows(self.sizes)[node].tolist():
            kept = parameter.data.clone()
            part = parameter.data.select(slices.axis, row)
            part += torch.linspace(1, 2, max(part.numel(), 1), dtype=part.dtype).reshape(part.shape)
            yield row
            parameter.data.copy_(kept)


def channels(before: Tensor, after: Tensor) -> set[int]:
    return set((before != after).any(0).nonzero()[:, 0].tolist())


def site(template: str, layer: int) -> str:
    return template.format(layer=layer)


every = pytest.mark.parametrize("family", ALL, indirect=True)


@every
def test_each_query_or_key_row_governs_the_whole_slice_of_its_heads(family: Subject) -> None:
    attention, width = family.description.attention, family.sizes.head_channels
    contexts = [site(attention.context, layer) for layer in range(family.sizes.layers)]
    before = family.inputs(*contexts)
    for slices in (at_layer(slices, LAYER) for slices in attention.query_key):
        heads = family.sizes.heads // family.sizes.nodes(slices.unit)  # that share this row
        for node in range(family.sizes.nodes(slices.unit)):
            own = set(range(node * heads * width, (node + 1) * heads * width))
            for _ in family.change(slices, node):
                after = family.inputs(*contexts)
                assert torch.equal(before[contexts[0]], after[contexts[0]]), "an earlier layer"
                touched = channels(before[contexts[LAYER]], after[contexts[LAYER]])
                assert touched <= own if slices in key_biases(family) else touched == own, slices


def key_biases(family: Subject) -> list[Slices]:
    """A bias of the keys adds the same to every score of a query, so softmax takes it away again but for rounding."""
    return [at_layer(slices, LAYER) for slices in family.description.attention.query_key[3:]]


@every
def test_each_value_row_governs_one_channel(family: Subject) -> None:
    attention, width = family.description.attention, family.sizes.head_channels
    context = site(attention.context, LAYER)
    before = family.inputs(context)[context]
    for slices in (at_layer(slices, LAYER) for slices in attention.value):
        nodes = family.sizes.nodes(slices.unit)
        heads = family.sizes.heads // nodes
        for node in range(nodes):
            touched = [channels(before, family.inputs(context)[context]) for _ in family.change(slices, node)]
            first = node * heads
            assert touched == [{(first + head) * width + c for head in range(heads)} for c in range(width)]


@every
def test_neurons_govern_their_own_activation(family: Subject) -> None:
    feed_forward = family.description.feed_forward
    activations = [site(feed_forward.activation, layer) for layer in range(family.sizes.layers)]
    before = family.inputs(*activations)
    for slices in (at_layer(slices, LAYER) for slices in feed_forward.first):
        for neuron in range(family.sizes.neurons):
            for _ in family.change(slices, neuron):
                after = family.inputs(*activations)
                assert torch.equal(before[activations[0]], after[activations[0]]), "an earlier layer"
                assert channels(before[activations[LAYER]], after[activations[LAYER]]) == {neuron}


@every
def test_output_columns_multiply_their_nodes(family: Subject) -> None:
    """Silence a node's columns, or silence the node itself: the model must answer the same."""
    attention, feed_forward = family.description.attention, family.description.feed_forward
    for block, module in ((attention, attention.context), (feed_forward, feed_forward.activation)):
        (slices,) = (at_layer(slices, LAYER) for slices in block.output)
        weight = family.parameters[slices.parameter]
        projection = family.backbone.get_submodule(site(module, LAYER))
        kept, rows = weight.data.clone(), slices.rows(family.sizes)
        for node, own in enumerate(rows.tolist()):
            weight.data.index_fill_(slices.axis, torch.tensor(own), 0)
            silent_columns = outputs(family, projection)
            weight.data.copy_(kept)
            width = rows.shape[1]
            silent_node = outputs(family, projection, slice(node * width, (node + 1) * width))
            assert torch.allclose(silent_columns, silent_node, rtol=0, atol=1e-12)


def outputs(family: Subject, projection: nn.Module, silent: slice | None = None) -> Tensor:
    def mute(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = inputs[0].clone()
        if silent is not None:
            z[..., silent] = 0
        return (z, *inputs[1:])

    with projection.register_forward_pre_hook(mute), torch.no_grad():
        return family.model(input_ids=torch.tensor([[5, 9, 4, 17, 8, 30]])).logits


@every
def test_the_site_before_the_activation_is_the_first_linear_layer(family: Subject) -> None:
    module = family.backbone.get_submodule(family.description.pre_activation(LAYER))
    assert isinstance(getattr(module, "weight", None), nn.Parameter)


@every
def test_the_description_fits_the_model(family: Subject) -> None:
    family.description.check_shapes(family.sizes, {name: tuple(p.shape) for name, p in family.parameters.items()})
    family.description.check_modules(family.sizes, {name for name, _ in family.backbone.named_modules()})
    split = family.description.backbone(list(family.model.state_dict()))
    assert sorted(split.values()) == sorted(family.parameters)
    assert sorted(family.description.backbone(list(family.backbone.state_dict()))) == sorted(family.parameters)


@every
def test_every_parameter_of_a_layer_is_in_one_block(family: Subject) -> None:
    """The attention block's prefixes hold all that the attention computes with, and nothing of the feed-forward."""
    prefixes = tuple(site(prefix, LAYER) for prefix in family.description.attention.block)
    attention = {slices.parameter for slices in family.description.slices(LAYER) if slices.unit != "neuron"}
    feed_forward = {slices.parameter for slices in family.description.slices(LAYER) if slices.unit == "neuron"}
    assert all(name.startswith(prefixes) for name in attention)
    assert not any(name.startswith(prefixes) for name in feed_forward)
    layer = site(family.description.layer, LAYER) + "."
    assert all(name.startswith(layer) for name in attention | feed_forward)
    assert all(any(name.startswith(prefix) for name in family.parameters) for prefix in prefixes)


def test_every_shipped_family_is_tested() -> None:
    assert set(architectures.known()) <= set(ALL)
    assert set(SHIPPED) <= set(architectures.known())
