"""The arithmetic of descriptions, against layouts that are built piece by piece; descriptions that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn import architectures
from fmn.architectures import Architecture, Sizes, Slices, Unit, at_layer, linear
from fmn.architectures.description import Attention, FeedForward
from fmn.errors import ArchitectureError

SIZES = st.builds(
    lambda groups, per_group, channels, neurons: Sizes(2, groups * per_group, groups, channels, neurons),
    *(st.integers(1, 4) for _ in range(3)),
    st.integers(1, 9),
)
UNITS: st.SearchStrategy[Unit] = st.sampled_from(["head", "group", "neuron"])


def layout(sizes: Sizes, stack: tuple[Unit, ...], interleaved: bool) -> list[tuple[int, int]]:
    """Say of every row which block of the stack and which node it belongs to, by writing the rows down one by one."""
    count = {"head": sizes.heads, "group": sizes.groups, "neuron": sizes.neurons}
    width = {"head": sizes.head_channels, "group": sizes.head_channels, "neuron": 1}
    rows: list[tuple[int, int]] = []
    if interleaved:
        for node in range(count[stack[0]]):
            for block in range(len(stack)):
                rows += [(block, node)] * width[stack[0]]
    else:
        for block, unit in enumerate(stack):
            for node in range(count[unit]):
                rows += [(block, node)] * width[unit]
    return rows


def check(slices: Slices, sizes: Sizes, told: list[tuple[int, int]], index: int) -> None:
    assert slices.length(sizes) == len(told)
    expected = [[row for row, owner in enumerate(told) if owner == (index, node)] for node in range(sizes.nodes(slices.unit))]
    assert slices.rows(sizes).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(SIZES, UNITS, st.sampled_from([0, 1]))
def test_rows_of_a_parameter_of_one_kind(sizes: Sizes, unit: Unit, axis: int) -> None:
    check(Slices("w", unit, axis), sizes, layout(sizes, (unit,), False), 0)


@settings(deadline=None, max_examples=50)
@given(SIZES, st.lists(UNITS, min_size=1, max_size=4), st.data())
def test_rows_of_a_stacked_parameter(sizes: Sizes, stack: list[Unit], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(stack) - 1))
    check(Slices("w", stack[index], 0, tuple(stack), index), sizes, layout(sizes, tuple(stack), False), index)


@settings(deadline=None, max_examples=50)
@given(SIZES, UNITS, st.integers(1, 4), st.data())
def test_rows_of_an_interleaved_parameter(sizes: Sizes, unit: Unit, blocks: int, data: st.DataObject) -> None:
    index, stack = data.draw(st.integers(0, blocks - 1)), (unit,) * blocks
    check(Slices("w", unit, 0, stack, index, interleaved=True), sizes, layout(sizes, stack, True), index)


def test_linear_layers() -> None:
    assert linear("q", "head") == (Slices("q.weight", "head"), Slices("q.bias", "head"))
    stack: tuple[Unit, ...] = ("head", "head")
    weight, bias = linear("qk", "head", axis=1, stack=stack, index=1)  # Conv1D
    assert (weight, bias) == (Slices("qk.weight", "head", 1, stack, 1), Slices("qk.bias", "head", 0, stack, 1))


def test_at_layer() -> None:
    slices = Slices("layer.{layer}.q", "head", 1)
    assert at_layer(slices, 12) == Slices("layer.12.q", "head", 1)
    assert slices.parameter == "layer.{layer}.q"


TOY = Architecture(
    model_type="toy",
    prefix="toy",
    layer="l.{layer}",
    attention=Attention(
        context="l.{layer}.o",
        query_key=linear("l.{layer}.q", "head"),
        value=linear("l.{layer}.v", "group"),
        output=(Slices("l.{layer}.o.weight", "head", axis=1),),
        block=("l.{layer}.q.",),
        groups="groups",
        head_channels="channels",
    ),
    feed_forward=FeedForward("l.{layer}.down", linear("l.{layer}.up", "neuron"), (Slices("l.{layer}.down.weight", "neuron", 1),)),
    ignored=("positions",),
)
CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "intermediate_size": 6}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Sizes(2, 4, 4, 4, 6)),
        ({"groups": 2}, Sizes(2, 4, 2, 4, 6)),
        ({"channels": 8}, Sizes(2, 4, 4, 8, 6)),
        ({"channels": 8, "hidden_size": 18}, Sizes(2, 4, 4, 8, 6)),
        ({"intermediate_size": None}, Sizes(2, 4, 4, 4, 64)),
    ],
)
def test_sizes(config: dict[str, int | None], expected: Sizes) -> None:
    assert TOY.sizes((CONFIG | config).get) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_attention_heads": None}, "a toy model needs num_attention_heads >= 1, got None"),
        ({"num_attention_heads": 0}, "needs num_attention_heads >= 1, got 0"),
        ({"num_attention_heads": 3}, "3 heads do not divide the hidden size 16 of this toy model"),
        ({"num_attention_heads": 32}, "32 heads do not divide the hidden size 16"),
        ({"hidden_size": "16"}, "needs hidden_size >= 1, got '16'"),
        ({"num_hidden_layers": 0}, "needs num_hidden_layers >= 1, got 0"),
        ({"intermediate_size": "6"}, "needs intermediate_size >= 1, got '6'"),
        ({"intermediate_size": 0}, "needs intermediate_size >= 1, got 0"),
        ({"groups": 3}, "3 key-value groups do not divide the 4 heads"),
        ({"groups": 0}, "needs groups >= 1, got 0"),
        ({"channels": -4}, "needs channels >= 1, got -4"),
    ],
)
def test_sizes_that_cannot_be(config: dict[str, object], message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        TOY.sizes((CONFIG | config).get)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_slices_and_sites_of_a_layer() -> None:
    parameters = [slices.parameter for slices in TOY.slices(1)]
    assert parameters == [f"l.1.{name}" for name in ("q.weight", "q.bias", "v.weight", "v.bias", "o.weight")] + [
        f"l.1.{name}" for name in ("up.weight", "up.bias", "down.weight")
    ]
    assert TOY.pre_activation(1) == "l.1.up"


def test_the_backbone_of_a_task_model() -> None:
    names = ["toy.l.0.q.weight", "toy.positions", "classifier.weight", "toys.x", "toy.toy.x", "cls.toy.x"]
    assert TOY.backbone(names) == {"toy.l.0.q.weight": "l.0.q.weight", "toy.toy.x": "toy.x"}
    assert TOY.backbone(iter(names)) == TOY.backbone(names)


def test_a_bare_backbone() -> None:
    names = ["l.0.q.weight", "positions", "pooler.weight"]
    assert TOY.backbone(names) == {"l.0.q.weight": "l.0.q.weight", "pooler.weight": "pooler.weight"}
    assert TOY.backbone([]) == {}


@pytest.mark.parametrize("model_type", architectures.known())
def test_buffers_are_no_parameters_of_any_family(model_type: str) -> None:
    family = architectures.get(model_type)
    names = [f"{prefix}embeddings.{name}" for prefix in (f"{family.prefix}.", "") for name in ("position_ids", "x.weight")]
    assert list(family.backbone(names[:2]).values()) == list(family.backbone(names[2:]).values()) == ["embeddings.x.weight"]


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    made: dict[str, tuple[int, ...]] = {}
    for layer in range(sizes.layers):
        made |= {f"l.{layer}.q.weight": (16, 16), f"l.{layer}.q.bias": (16,), f"l.{layer}.o.weight": (16, 16)}
        made |= {f"l.{layer}.v.weight": (8, 16), f"l.{layer}.v.bias": (8,)}
        made |= {f"l.{layer}.up.weight": (6, 16), f"l.{layer}.up.bias": (6,), f"l.{layer}.down.weight": (16, 6)}
    return made


GROUPED = TOY.sizes((CONFIG | {"groups": 2}).get)


def test_shapes_that_fit() -> None:
    TOY.check_shapes(GROUPED, shapes(GROUPED))


@pytest.mark.parametrize("name", shapes(GROUPED))
def test_a_parameter_that_is_missing(name: str) -> None:
    rest = {other: shape for other, shape in shapes(GROUPED).items() if other != name}
    with pytest.raises(ArchitectureError) as error:
        TOY.check_shapes(GROUPED, rest)
    assert str(error.value) == f"the description of 'toy' expects a parameter {name}, which this model does not have"


@pytest.mark.parametrize("name", shapes(GROUPED))
@pytest.mark.parametrize(
    "change", [lambda shape: tuple(n + 1 for n in shape), lambda shape: tuple(n - 1 for n in shape), lambda shape: ()]
)
def test_a_parameter_of_another_size(name: str, change) -> None:
    shape = change(shapes(GROUPED)[name])
    with pytest.raises(ArchitectureError) as error:
        TOY.check_shapes(GROUPED, shapes(GROUPED) | {name: shape})
    line = str(error.value)
    assert f"of {name}, whose shape is {list(shape)}; does config.json belong to these weights?" in line and "\n" not in line


def test_more_layers_than_the_model_has() -> None:
    with pytest.raises(ArchitectureError, match=r"expects a parameter l\.2\.q\.weight, which this model does not have"):
        TOY.check_shapes(replace(GROUPED, layers=3), shapes(GROUPED))


@pytest.mark.parametrize("missing", [f"l.{layer}.{module}" for layer in (0, 1) for module in ("o", "up", "down")])
def test_a_module_that_is_missing(missing: str) -> None:
    modules = {f"l.{layer}.{module}" for layer in (0, 1) for module in ("q", "v", "o", "up", "down")}
    TOY.check_modules(GROUPED, modules)
    with pytest.raises(ArchitectureError) as error:
        TOY.check_modules(GROUPED, modules - {missing})
    assert str(error.value) == f"the description of 'toy' expects a module {missing}, which this model does not have"
