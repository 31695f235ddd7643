"""A mask Fisher's file as tables: a kind of node is what its tensors are called."""

import numpy as np
import pytest

from fmn.architectures import NODES, node_kind
from fmn.errors import FisherError
from fmn.report.fishers import node_tables


def test_every_kind_is_a_table_of_the_layers_that_have_it():
    random = np.random.default_rng(0)
    arrays = {
        f"layer.{layer}.{kind}": random.random(size).astype(np.float32)
        for kind, size, layers in (
            ("made_up", 5, (11, 2)),
            ("cross_attention", 3, (2, 3)),
            ("feed_forward", 7, range(12)),
            ("attention", 4, range(12)),
        )
        for layer in layers
    }
    tables = node_tables(arrays | {"embeddings.weight": np.ones((2, 3), np.float32)})
    assert list(tables) == ["attention", "feed_forward", "cross_attention", "made_up"]
    assert tables["attention"].layers == tuple(range(12))
    assert tables["cross_attention"].layers == (2, 3)
    assert tables["made_up"].layers == (2, 11)
    for name, table in tables.items():
        assert table.values.dtype == np.float64
        for layer, row in zip(table.layers, table.values, strict=True):
            np.testing.assert_array_equal(row, arrays[f"layer.{layer}.{name}"])


def test_kinds_of_this_package_have_titles_and_others_their_names():
    assert node_kind("attention").heading == "Attention heads"
    assert (node_kind("made_up").title, node_kind("made_up").heading) == ("made_up", "made_up")
    assert len({kind.title for kind in NODES.values()}) == len(NODES)
    assert all(name == kind.name for name, kind in NODES.items())


def test_layers_with_different_numbers_of_nodes_are_told_by_their_kind():
    arrays = {
        "layer.0.attention": np.ones(3),
        "layer.0.made_up": np.ones(2),
        "layer.1.made_up": np.ones(4),
    }
    with pytest.raises(
        FisherError,
        match=r"layer\.1\.made_up has shape \(4,\).*different numbers of made_up",
    ):
        node_tables(arrays)


def test_what_has_no_nodes_is_no_mask_fisher():
    with pytest.raises(FisherError, match="no mask Fisher"):
        node_tables({"encoder.layer.0.attention.self.query.weight": np.ones((2, 2))})
