"""What a statistic may be called, and under what it is computed."""

import numpy as np
import pytest

from fmn import statistics
from fmn.errors import FisherError, ParamsError
from fmn.params import MemorySettings
from fmn.recipe import FisherSettings
from fmn.statistics import (
    MaskFisherStatistic,
    get_statistic,
    normalized,
    register_statistic,
    title_of,
)
from fmn.statistics import statistics as registered


@pytest.fixture
def registry(monkeypatch):
    registered()  # what entry points bring is there before, and stays
    monkeypatch.setattr(statistics._STATISTICS, "_items", dict(statistics._STATISTICS._items))


class Own(MaskFisherStatistic):
    name = "own"
    title = "something of one's own"
    memory = ()


def test_a_statistic_made_of_another_has_its_own_option(registry):
    register_statistic(Own())
    assert get_statistic("own").option == "own"
    assert get_statistic("mask").name == get_statistic("mask-fisher").name == "mask-fisher"
    assert title_of("own") == "something of one's own"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("mask", "two statistics have the option 'mask'"),
        ("mask-fisher", "option 'mask-fisher' of the statistic own is another statistic's name"),
    ],
)
def test_an_option_means_one_statistic(registry, option, message):
    own = Own()
    own.option = option
    register_statistic(own)
    with pytest.raises(ParamsError, match=message):
        registered()


def test_only_what_says_so_is_computed_under_a_device_map():
    memory = MemorySettings(device_map="auto")
    for name in ("mask", "gram"):
        get_statistic(name).check(FisherSettings(), memory)
    with pytest.raises(FisherError, match="something of one's own cannot be computed under a dev"):
        Own().check(FisherSettings(), memory)


@pytest.mark.parametrize("how", ["mean", "l2"])
def test_the_scale_does_not_depend_on_the_order_of_tensors(how):
    rng = np.random.default_rng(0)
    values = {f"tensor {number}": rng.lognormal(0, 9, 7) for number in range(20)}
    assert normalized(values, how) == normalized(dict(reversed(values.items())), how)
