import numpy as np
import pytest

from fmn.architectures import NODES
from fmn.errors import FisherError, ParamsError
from fmn.report.shares import NodeShares, node_shares
from tests.families import tiny
from tests.merging.conftest import merged_arrays, random_fisher, source

LAYERS, HEADS, NEURONS, HIDDEN = 2, 4, 24, 16
LAYER = "bert.encoder.layer.{}"
GOVERNED = {
    "attention": [
        f"{LAYER}.attention.self.{which}.{what}"
        for which in ("query", "key")
        for what in ("weight", "bias")
    ],
    "feed_forward": [f"{LAYER}.intermediate.dense.{what}" for what in ("weight", "bias")],
}


def arrays(attention, feed_forward):
    """A Fisher of one layer."""
    return {
        "layer.0.attention": np.array(attention, np.float32),
        "layer.0.feed_forward": np.array(feed_forward, np.float32),
    }


def fishers_of(count):
    """Random Fishers of several scales; two nodes are 0 in all models, one in all but the last."""
    fishers = [random_fisher(LAYERS, HEADS, NEURONS, seed) for seed in range(count)]
    for number, fisher in enumerate(fishers):
        fisher.tensors["layer.0.attention"][1] = 0
        fisher.tensors["layer.1.feed_forward"][7] = 0
        fisher.tensors["layer.1.attention"][2] *= number == count - 1
    return fishers


@pytest.mark.parametrize(
    ("normalize", "temper"), [("none", 1.0), ("mean", 1.0), ("l2", 1.0), ("mean", 0.5)]
)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.5, 1.0), (1.0, 0.0, 2.0)])
def test_shares_are_what_the_engine_merges_with(weights, normalize, temper):
    """Where one model's parameters are 1 and all others' are 0, the merged rows are that model's
    shares."""
    count = len(weights)
    fishers = fishers_of(count)
    shares = node_shares([fisher.tensors for fisher in fishers], weights, normalize, temper)
    for ours in range(count):
        sources = []
        for number in range(count):
            model = tiny("bert", seed=number)
            for parameter in model.parameters():
                parameter.data.fill_(float(number == ours))
            sources.append(source(model, f"t{number}", weights[number], fishers[number]))
        merged = merged_arrays(sources, "mask-fisher", normalize=normalize, temper=temper)
        for kind, names in GOVERNED.items():
            for layer, name in (
                (layer, name.format(layer)) for layer in range(LAYERS) for name in names
            ):
                column = shares[kind].values[layer, :, ours]
                rows = merged[name].reshape(len(column), -1)
                np.testing.assert_allclose(
                    rows, np.broadcast_to(column[:, None], rows.shape), atol=1e-14, err_msg=name
                )


def test_nodes_that_are_zero_in_all_models_go_by_the_weights():
    shares = node_shares([arrays([0, 2], [0]), arrays([0, 1], [0])], [3.0, 1.0], "none")
    np.testing.assert_allclose(shares["attention"].values[0], [[3 / 4, 1 / 4], [6 / 7, 1 / 7]])
    np.testing.assert_allclose(shares["feed_forward"].values[0], [[3 / 4, 1 / 4]])


def test_means_winners_and_ties():
    shares = node_shares(
        [arrays([1, 1, 8, 0], [1]), arrays([1, 3, 1, 0], [1]), arrays([0, 0, 1, 0], [2])],
        [1.0, 1.0, 1.0],
        "none",
    )
    np.testing.assert_allclose(shares["attention"].values[0].sum(axis=1), 1)
    np.testing.assert_allclose(
        shares["attention"].mean(),
        [[(0.5 + 0.25 + 0.8 + 1 / 3) / 4, (0.5 + 0.75 + 0.1 + 1 / 3) / 4, (0.1 + 1 / 3) / 4]],
    )
    assert shares["attention"].winners().tolist() == [[0, 1, 0, 0]]
    assert shares["attention"].tied().tolist() == [[True, False, False, True]]
    np.testing.assert_allclose(
        shares["attention"].won(), [[(0.5 + 1 + 1 / 3) / 4, (0.5 + 1 + 1 / 3) / 4, 1 / 12]]
    )
    assert shares["feed_forward"].winners().tolist() == [[2]]
    assert shares["feed_forward"].won().tolist() == [[0, 0, 1]]
    assert shares["attention"].values.dtype == shares["feed_forward"].values.dtype == np.float64


def test_tiny_fishers_do_not_vanish():
    shares = node_shares([arrays([1e-40], [1e-44]), arrays([3e-40], [1e-44])], [1.0, 1.0], "none")
    np.testing.assert_allclose(shares["attention"].values[0, 0], [0.25, 0.75], rtol=1e-4)
    assert shares["feed_forward"].tied().all()


def test_a_model_that_needs_everything_more_wins_everything_unless_scales_are_normalised():
    one = random_fisher(LAYERS, HEADS, NEURONS, 1).tensors
    other = {name: 1000 * tensor for name, tensor in one.items()}
    assert (node_shares([one, other], [1, 1], "none")["feed_forward"].won()[:, 1] == 1).all()
    for normalize in ("mean", "l2"):
        np.testing.assert_allclose(
            node_shares([one, other], [1, 1], normalize)["attention"].values, 0.5, rtol=1e-6
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "layer.0.attention": np.ones(2, np.float32),
                "layer.1.attention": np.ones(2, np.float32),
            },
            "2 layers of 4 attention heads.*; and 2 layers of 2 attention heads",
        ),
        ({"layer.1.attention": np.ones(3, np.float32)}, r"layer\.1\.attention has shape \(3,\)"),
        (
            {"layer.1.feed_forward": None},
            "2 layers of 24 feed-forward neurons; .* 1 layers of 24",
        ),
        (
            {"layer.0.feed_forward": np.full(24, np.nan, np.float32)},
            r"layer\.0\.feed_forward holds NaN",
        ),
        (
            {"layer.0.attention": np.full(4, -1, np.float32)},
            r"layer\.0\.attention holds NaN, infinite or negative values",
        ),
    ],
)
def test_fishers_that_do_not_fit(changes, message):
    one, other = (random_fisher(LAYERS, HEADS, NEURONS, seed).tensors for seed in (1, 2))
    other = {name: tensor for name, tensor in {**other, **changes}.items() if tensor is not None}
    with pytest.raises(FisherError, match=message):
        node_shares([one, other], [1, 1], "none")


@pytest.mark.parametrize("weights", [(0, 0), (1, -1), (1, np.nan), (np.inf, 1)])
def test_weights_that_share_nothing(weights):
    fisher = random_fisher(LAYERS, HEADS, NEURONS, 1).tensors
    with pytest.raises(
        ParamsError, match="expected finite numbers, 0 or more, and at least one above 0"
    ):
        node_shares([fisher, fisher], weights, "none")


def test_every_kind_of_node_has_its_shares():
    one = {"layer.1.made_up": np.array([1.0, 0.0]), "layer.0.attention": np.array([3.0])}
    other = {"layer.1.made_up": np.array([3.0, 0.0]), "layer.0.attention": np.array([1.0])}
    shares = node_shares([one, other], [1.0, 1.0], "none")
    assert {name: share.layers for name, share in shares.items()} == {
        "attention": (0,),
        "made_up": (1,),
    }
    np.testing.assert_allclose(shares["made_up"].values[0], [[0.25, 0.75], [0.5, 0.5]])
    with pytest.raises(FisherError, match="1 layers of 2 made_up; and 1 layers of 1 attention"):
        node_shares([one, {"layer.0.attention": np.ones(1)}], [1.0, 1.0], "none")


def test_shares_are_frozen():
    shares = NodeShares(NODES["attention"], (0,), np.ones((1, 1, 1)))
    with pytest.raises(AttributeError):
        shares.values = np.zeros((1, 1, 1))
