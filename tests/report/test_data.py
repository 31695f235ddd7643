import numpy as np
import pytest
from pydantic import ValidationError

from fmn.errors import FisherError
from fmn.report import FisherMap, Report
from fmn.report.data import NodeMap
from tests.report.sample import key, make_report


def arrays(layers=3, heads=4, neurons=7):
    random = np.random.default_rng(1)
    sizes = {"attention": heads, "feed_forward": neurons}
    return {
        f"layer.{layer}.{kind}": random.random(size).astype(np.float32)
        for layer in range(layers)
        for kind, size in sizes.items()
    }


def test_a_map_holds_a_fisher_bit_by_bit_and_what_it_is_divided_by():
    tensors = arrays()
    made = FisherMap.of(tensors, key=key("f"), model=0, task="rte")
    assert list(made.nodes) == ["attention", "feed_forward"]
    for kind, nodes in made.nodes.items():
        assert nodes.layers == (0, 1, 2)
        expected = np.stack([tensors[f"layer.{layer}.{kind}"] for layer in range(3)])
        np.testing.assert_array_equal(nodes.array(), expected)
        np.testing.assert_array_equal(made.tables()[kind].values, expected)
    everything = np.concatenate([array.astype(np.float64) for array in tensors.values()])
    expected = {"none": 1.0, "mean": everything.mean(), "l2": np.linalg.norm(everything)}
    assert made.scales == pytest.approx(expected, rel=1e-12)


def test_scales_count_the_nodes_of_shared_keys_and_values_too():
    tensors = arrays() | {
        f"layer.{layer}.key_value": np.full(2, 100, np.float32) for layer in range(3)
    }
    mean = np.concatenate([array.astype(np.float64) for array in tensors.values()]).mean()
    assert FisherMap.of(tensors, key=key("f"), model=0, task="rte").scales["mean"] == pytest.approx(
        mean
    )


def test_a_fisher_that_is_none_is_refused():
    with pytest.raises(FisherError, match="NaN"):
        FisherMap.of(
            arrays() | {"layer.0.attention": np.full(4, np.nan, np.float32)},
            key=key("f"),
            model=0,
            task="rte",
        )
    whole = FisherMap.of(arrays(), key=key("f"), model=0, task="rte")
    with pytest.raises(ValidationError, match="3 layers of 5 nodes hold 12 values, not 15"):
        NodeMap.model_validate({**dict(whole.nodes["attention"]), "nodes": 5})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: {"models": data["models"][:2]}, "there is no model 2; the report has 2"),
        (
            lambda data: {"merges": data["merges"] + data["merges"][:1]},
            "two Merges have the same key",
        ),
        (
            lambda data: {"merges": [data["merges"][0].model_copy(update={"key": '"><b>'})]},
            "should match pattern",
        ),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(change, complaint):
    data = dict(make_report(("sst2", "rte", "mnli")))
    changed = {name: [dict(each) for each in value] for name, value in change(data).items()}
    with pytest.raises(ValidationError, match=complaint):
        Report.model_validate(data | changed)
