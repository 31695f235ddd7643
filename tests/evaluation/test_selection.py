"""Which rows choose: a draw that anybody repeats, of exactly the share that was written."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmn.evaluation import chosen_by, fewest

SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)


def test_the_draw_is_the_documented_one():
    which = chosen_by(10, 0.5)
    assert sorted(np.random.Generator(np.random.PCG64(10)).permutation(10)[:5]) == [
        *np.flatnonzero(which)
    ]
    assert np.flatnonzero(which).tolist() == [1, 2, 3, 4, 7]
    np.testing.assert_array_equal(which, chosen_by(10, 0.5))


@pytest.mark.parametrize(
    ("share", "rows", "chosen"), [(0.5, 277, 138), (0.29, 100, 29), (0.7, 10, 7), (0.999, 9, 8)]
)
def test_a_share_is_meant_as_it_is_written(share, rows, chosen):
    assert chosen_by(rows, share).sum() == chosen  # 0.29 * 100 is 28.999999999999996


def test_a_larger_share_has_the_rows_of_a_smaller_one():
    smaller, larger = chosen_by(500, 0.2), chosen_by(500, 0.6)
    assert larger[smaller].all()
    assert not smaller[larger].all()


@given(SHARES)
def test_from_the_fewest_rows_on_both_parts_have_some(share):
    rows = fewest(share)
    assert Fraction(str(share)) * rows >= 1
    assert Fraction(str(share)) * (rows - 1) < 1
    if rows < 10_000:
        assert 0 < chosen_by(rows, share).sum() < rows
        assert not chosen_by(rows - 1, share).any()
