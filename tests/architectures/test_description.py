"""The arithmetic of descriptions, against layouts that are built piece by piece; descriptions that
do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn import architectures
from fmn.architectures import (
    Architecture,
    Attention,
    FeedForward,
    Layer,
    Sizes,
    Slices,
    Stack,
    Unit,
    fused,
    linear,
)
from fmn.errors import ArchitectureError

SIZES = st.builds(
    lambda groups, per_group, channels, neurons, hidden: Sizes(
        groups * per_group, groups, channels, neurons, hidden
    ),
    *(st.integers(1, 4) for _ in range(3)),
    st.integers(1, 9),
    st.integers(1, 9),
)
UNITS: st.SearchStrategy[Unit] = st.sampled_from(["head", "group", "neuron"])


def layout(sizes: Sizes, stack: tuple[Unit, ...], interleaved: bool) -> list[tuple[int, int]]:
    """Say of every row which block of the stack and which node it belongs to, by writing the rows
    down one by one."""
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


def check(slices: Slices, sizes: Sizes, owners: list[tuple[int, int]], index: int) -> None:
    assert slices.length(sizes) == len(owners)
    expected = [
        [row for row, owner in enumerate(owners) if owner == (index, node)]
        for node in range(sizes.nodes(slices.unit))
    ]
    assert slices.rows(sizes).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(SIZES, UNITS, st.sampled_from([0, 1]))
def test_rows_of_a_parameter_of_one_kind(sizes: Sizes, unit: Unit, axis: int) -> None:
    check(Slices("w", unit, axis), sizes, layout(sizes, (unit,), False), 0)


@settings(deadline=None, max_examples=50)
@given(SIZES, st.lists(UNITS, min_size=1, max_size=4), st.data())
def test_rows_of_a_stacked_parameter(sizes: Sizes, stack: list[Unit], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(stack) - 1))
    check(
        Slices("w", stack[index], 0, tuple(stack), index),
        sizes,
        layout(sizes, tuple(stack), False),
        index,
    )


@settings(deadline=None, max_examples=50)
@given(SIZES, UNITS, st.integers(1, 4), st.data())
def test_rows_of_an_interleaved_parameter(
    sizes: Sizes, unit: Unit, blocks: int, data: st.DataObject
) -> None:
    index, stack = data.draw(st.integers(0, blocks - 1)), (unit,) * blocks
    check(
        Slices("w", unit, 0, stack, index, interleaved=True),
        sizes,
        layout(sizes, stack, True),
        index,
    )


def test_linear_layers() -> None:
    assert linear("q", "head") == (Slices("q.weight", "head"), Slices("q.bias", "head"))
    stack: tuple[Unit, ...] = ("head", "head")
    weight, bias = linear("qk", "head", axis=1, stack=stack, index=1)  # Conv1D
    assert (weight, bias) == (
        Slices("qk.weight", "head", 1, stack, 1),
        Slices("qk.bias", "head", 0, stack, 1),
    )


def test_a_bias_that_is_missing_or_optional() -> None:
    assert linear("q", "head", bias=False) == (Slices("q.weight", "head"),)
    assert [slices.optional for slices in linear("q", "head", bias=None)] == [False, True]
    assert [slices.optional for slices in linear("q", "head", optional=True)] == [True, True]


def test_fused_layers() -> None:
    units: tuple[Unit, ...] = ("head", "group", "group")
    assert fused("qkv", units, bias=None) == tuple(
        linear("qkv", unit, bias=None, stack=units, index=index) for index, unit in enumerate(units)
    )


def test_within_a_layer() -> None:
    slices = Slices("q.weight", "head", 1)
    assert slices.within("layer.12.") == Slices("layer.12.q.weight", "head", 1)
    assert slices.parameter == "q.weight"


ATTENTION = Attention(
    context="o",
    query_key=linear("q", "head"),
    value=linear("v", "group"),
    output=(Slices("o.weight", "head", axis=1),),
    block=("q.",),
    groups="groups",
    head_channels="channels",
)
FEED_FORWARD = FeedForward("down", linear("up", "neuron"), (Slices("down.weight", "neuron", 1),))
TOY = Architecture(
    "toy", "toy", (Stack("l", (ATTENTION,), FEED_FORWARD),), ignored=("positions", "l.*.inv_freq")
)
CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 16,
    "intermediate_size": 6,
}


def sizes_of(config: dict[str, int | None]) -> Sizes:
    (sizes,) = {layer.sizes for layer in TOY.layers((CONFIG | config).get)}
    return sizes


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Sizes(4, 4, 4, 6, 16)),
        ({"groups": 2}, Sizes(4, 2, 4, 6, 16)),
        ({"channels": 8}, Sizes(4, 4, 8, 6, 16)),
        ({"channels": 8, "hidden_size": 18}, Sizes(4, 4, 8, 6, 18)),
        ({"intermediate_size": None}, Sizes(4, 4, 4, 64, 16)),
    ],
)
def test_sizes(config: dict[str, int | None], expected: Sizes) -> None:
    assert sizes_of(config) == expected


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
        TOY.layers((CONFIG | config).get)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_slices_and_sites_of_a_layer() -> None:
    layer = TOY.layers(CONFIG.get)[1]
    parameters = [slices.parameter for slices in layer.slices()]
    assert parameters == [
        f"l.1.{name}" for name in ("q.weight", "q.bias", "v.weight", "v.bias", "o.weight")
    ] + [f"l.1.{name}" for name in ("up.weight", "up.bias", "down.weight")]
    assert [block.site for block in layer.blocks] == ["l.1.o", "l.1.down"]
    assert layer.blocks[1].pre_activation(parameters) == "l.1.up"
    assert layer.nodes() == {"layer.1.attention": 4, "layer.1.feed_forward": 6}
    assert GROUPED[1].nodes() == {
        "layer.1.attention": 4,
        "layer.1.key_value": 2,
        "layer.1.feed_forward": 6,
    }


def test_nodes_beyond_the_papers_of_a_layer() -> None:
    layer = TOY.layers((CONFIG | {"groups": 2, "channels": 8}).get)[1]
    paper = layer.nodes()
    assert layer.nodes(["attention", "feed-forward"]) == paper
    assert layer.nodes(["value-heads"]) == paper | {"layer.1.attention_values": 2}
    assert layer.nodes(["output-columns"]) == paper | {"layer.1.attention_columns": 32}
    assert layer.nodes(["layers", "residual-channels"]) == paper | {
        "layer.1.attention_channels": 16,
        "layer.1.feed_forward_channels": 16,
        "layer.1.layer": 1,
    }
    assert layer.nodes(["kv-groups"]) == paper | {"layer.1.attention_groups": 2}
    attention, neurons = layer.blocks
    assert attention.governed_by("value-heads") == attention.value
    assert attention.governed_by("output-columns") == (Slices("l.1.o.weight", "column", axis=1),)
    assert attention.governed_by("residual-channels") == (
        Slices("l.1.o.weight", "channel"),
        Slices("l.1.o.bias", "channel", optional=True),
    )
    assert neurons.governed_by("value-heads") == neurons.governed_by("output-columns") == ()
    assert neurons.governed_by("residual-channels")[0] == Slices("l.1.down.weight", "channel")


CROSS = replace(
    ATTENTION, context="c.o", query_key=linear("c.q", "head"), value=(), output=(), groups=None
)
EITHER = replace(
    FEED_FORWARD,
    first=tuple(
        Slices(f"{name}.weight", "neuron", optional=True) for name in ("up", "gate", "wide")
    ),
)
BOTH = Architecture(
    "both",
    "both",
    (
        Stack("encoder", (replace(ATTENTION, groups=None),), FEED_FORWARD, "encoder_layers"),
        Stack(
            "decoder",
            (replace(ATTENTION, groups=None), CROSS),
            replace(EITHER, neurons="decoder_neurons"),
            "decoder_layers",
        ),
    ),
    heads=("lm_head.",),
    tied=("lm_head.weight", "decoder.embed.weight"),
)
BOTH_CONFIG = CONFIG | {"encoder_layers": 1, "decoder_layers": 2, "decoder_neurons": 5}


def test_layers_are_numbered_through_the_stacks_and_have_their_own_sizes() -> None:
    layers = BOTH.layers(BOTH_CONFIG.get)
    assert [(layer.number, layer.prefix, layer.sizes.neurons) for layer in layers] == [
        (0, "encoder.0.", 6),
        (1, "decoder.0.", 5),
        (2, "decoder.1.", 5),
    ]
    assert layers[0].nodes() == {"layer.0.attention": 4, "layer.0.feed_forward": 6}
    assert layers[2].nodes() == {
        "layer.2.attention": 4,
        "layer.2.cross_attention": 4,
        "layer.2.feed_forward": 5,
    }
    assert layers[2].nodes(["value-heads"]).keys() - layers[2].nodes() == {
        "layer.2.attention_values"  # the toy's cross attention names no values
    }


def test_of_a_feed_forward_that_comes_in_two_forms_one_must_be_there() -> None:
    block = BOTH.layers(BOTH_CONFIG.get)[1].blocks[-1]
    assert (
        block.pre_activation(["decoder.0.gate.weight", "decoder.0.wide.weight"]) == "decoder.0.gate"
    )
    assert block.pre_activation(["decoder.0.up.weight"]) == "decoder.0.up"
    decoder = replace(BOTH, stacks=(replace(BOTH.stacks[1], attentions=(ATTENTION,)),))
    layers = decoder.layers(BOTH_CONFIG.get)
    rest = {
        name.replace("l.", "decoder."): shape
        for name, shape in shapes(TOY.layers(CONFIG.get)).items()
        if "up" not in name
    }
    rest |= {f"decoder.{layer}.down.weight": (16, 5) for layer in range(2)}
    for form in (("up",), ("gate", "wide")):
        decoder.check_shapes(
            layers,
            rest
            | {f"decoder.{layer}.{name}.weight": (5, 16) for layer in range(2) for name in form},
        )
    wanted = "decoder.0.up.weight or decoder.0.gate.weight or decoder.0.wide.weight"
    with pytest.raises(
        ArchitectureError, match=f"expects a parameter {wanted}, which this model does not have"
    ):
        decoder.check_shapes(layers, rest)


def test_attentions_of_a_layer_must_be_alike() -> None:
    unlike = replace(
        BOTH, stacks=(Stack("l", (ATTENTION, replace(CROSS, heads="others")), FEED_FORWARD),)
    )
    with pytest.raises(
        ArchitectureError,
        match="the attentions of one layer of this both model have different sizes",
    ):
        unlike.layers((CONFIG | {"others": 2}).get)
    with pytest.raises(
        ArchitectureError, match="shares key and value heads beside cross attention"
    ):
        replace(
            BOTH, stacks=(Stack("l", (ATTENTION, replace(CROSS, groups="groups")), FEED_FORWARD),)
        ).layers((CONFIG | {"groups": 2}).get)


def test_a_backbone_without_a_prefix_has_no_heads() -> None:
    assert list(BOTH.backbone(["encoder.0.q.weight", "lm_head.weight"])) == ["encoder.0.q.weight"]
    assert BOTH.backbone(["both.encoder.0.q.weight", "lm_head.weight"]) == {
        "both.encoder.0.q.weight": "encoder.0.q.weight"
    }
    names = (
        "lm_head.weight",
        "decoder.embed.weight",
        "both.decoder.embed.weight",
        "decoder.0.q.weight",
    )
    assert [BOTH.is_tied(name) for name in names] == [True, True, True, False]


def test_modules_that_checkpoints_call_otherwise() -> None:
    renamed = replace(TOY, renamed=(("layers.{n}.att.q", "l.{n}.q"), ("layers.{n}", "l.{n}")))
    names = [
        "toy.layers.11.att.q.weight",
        "toy.layers.11.att.qq",
        "toy.layers.2",
        "toy.l.3.q.weight",
        "toy.x.layers.2",
    ]
    assert list(renamed.backbone(names).values()) == [
        "l.11.q.weight",
        "l.11.att.qq",
        "l.2",
        "l.3.q.weight",
        "x.layers.2",
    ]


def test_the_backbone_of_a_task_model() -> None:
    names = [
        "toy.l.0.q.weight",
        "toy.positions",
        "toy.l.7.inv_freq",
        "classifier.weight",
        "toys.x",
        "toy.toy.x",
        "cls.toy.x",
    ]
    assert TOY.backbone(names) == {"toy.l.0.q.weight": "l.0.q.weight", "toy.toy.x": "toy.x"}
    assert TOY.backbone(iter(names)) == TOY.backbone(names)


def test_a_bare_backbone() -> None:
    names = ["l.0.q.weight", "positions", "pooler.weight"]
    assert TOY.backbone(names) == {"l.0.q.weight": "l.0.q.weight", "pooler.weight": "pooler.weight"}
    assert TOY.backbone([]) == {}


@pytest.mark.parametrize(
    "model_type", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"]
)
def test_buffers_are_no_parameters(model_type: str) -> None:
    family = architectures.get(model_type)
    names = [
        f"{prefix}embeddings.{name}"
        for prefix in (f"{family.prefix}.", "")
        for name in ("position_ids", "x.weight")
    ]
    assert (
        list(family.backbone(names[:2]).values())
        == list(family.backbone(names[2:]).values())
        == ["embeddings.x.weight"]
    )


def test_gpt2_has_buffers_whose_names_look_like_biases() -> None:
    family = architectures.get("gpt2")
    names = [f"h.3.attn.{name}" for name in ("bias", "masked_bias", "c_attn.bias", "c_proj.bias")]
    assert list(family.backbone(names)) == names[2:]


def shapes(layers: tuple[Layer, ...]) -> dict[str, tuple[int, ...]]:
    made: dict[str, tuple[int, ...]] = {}
    for layer in range(len(layers)):
        made |= {
            f"l.{layer}.q.weight": (16, 16),
            f"l.{layer}.q.bias": (16,),
            f"l.{layer}.o.weight": (16, 16),
        }
        made |= {
            f"l.{layer}.v.weight": (4 * layers[layer].sizes.groups, 16),
            f"l.{layer}.v.bias": (4 * layers[layer].sizes.groups,),
        }
        made |= {
            f"l.{layer}.up.weight": (6, 16),
            f"l.{layer}.up.bias": (6,),
            f"l.{layer}.down.weight": (16, 6),
        }
    return made


GROUPED = TOY.layers((CONFIG | {"groups": 2}).get)


def test_shapes_that_fit() -> None:
    TOY.check_shapes(GROUPED, shapes(GROUPED))


@pytest.mark.parametrize("name", shapes(GROUPED))
def test_a_parameter_that_is_missing(name: str) -> None:
    rest = {other: shape for other, shape in shapes(GROUPED).items() if other != name}
    with pytest.raises(ArchitectureError) as error:
        TOY.check_shapes(GROUPED, rest)
    assert (
        str(error.value)
        == f"the description of 'toy' expects a parameter {name}, which this model does not have"
    )


@pytest.mark.parametrize("name", shapes(GROUPED))
@pytest.mark.parametrize(
    "change",
    [
        lambda shape: tuple(n + 1 for n in shape),
        lambda shape: tuple(n - 1 for n in shape),
        lambda shape: (),
    ],
)
def test_a_parameter_of_another_size(name: str, change) -> None:
    shape = change(shapes(GROUPED)[name])
    with pytest.raises(ArchitectureError) as error:
        TOY.check_shapes(GROUPED, shapes(GROUPED) | {name: shape})
    line = str(error.value)
    assert (
        f"of {name}, whose shape is {list(shape)}; does config.json belong to these weights?"
        in line
        and "\n" not in line
    )


def test_more_layers_than_the_model_has() -> None:
    with pytest.raises(
        ArchitectureError,
        match=r"expects a parameter l\.2\.q\.weight, which this model does not have",
    ):
        TOY.check_shapes(
            TOY.layers((CONFIG | {"groups": 2, "num_hidden_layers": 3}).get), shapes(GROUPED)
        )


@pytest.mark.parametrize(
    "missing", [f"l.{layer}.{module}" for layer in (0, 1) for module in ("o", "up", "down")]
)
def test_a_module_that_is_missing(missing: str) -> None:
    modules = {
        f"l.{layer}.{module}" for layer in (0, 1) for module in ("q", "v", "o", "up", "down")
    }
    TOY.check_modules(GROUPED, modules, shapes(GROUPED))
    with pytest.raises(ArchitectureError) as error:
        TOY.check_modules(GROUPED, modules - {missing}, shapes(GROUPED))
    assert (
        str(error.value)
        == f"the description of 'toy' expects a module {missing}, which this model does not have"
    )
