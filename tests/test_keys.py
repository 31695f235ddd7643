"""Equal meaning gives equal bytes; unequal meaning does not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn.keys import canonical_json, digest

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_it_is_json_of_the_same_meaning(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES), st.randoms())
def test_the_order_of_a_dictionary_means_nothing(value: dict[str, object], random) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)
    assert digest("kind", dict(items)) == digest("kind", value)


def test_one_form() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null]}'.encode()
    assert canonical_json((1, 2)) == canonical_json([1, 2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [-float("inf")]}, "\ud800"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical_json({"a": {1, 2}})


def test_the_kind_keeps_keys_apart() -> None:
    assert digest("fisher", {"a": 1}) != digest("merge", {"a": 1})
    assert digest("a", "b") != digest("b", "a")
    assert digest("a", ["b", "c"]) != digest("a", ["bc"])


def test_digests_do_not_change_between_versions() -> None:
    """Everything that a team has stored is found by its key."""
    assert (
        digest("fisher", {"labels": "true", "seed": 0})
        == "3470ee2d3d2e21937e894f34d5139d8908529924afe0de3236e83022b15ab3a7"
    )
