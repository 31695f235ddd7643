"""Rules with parameters of their own, and every value of a sweep."""

import numpy as np
import pytest

from fmn.errors import ParamsError
from fmn.merging import Parameter, Rule, get_rule, variants


def labels(*methods, **defaults):
    return [v.label for v in variants([(name, own) for name, own in methods], defaults)]


def test_lists_multiply_and_differing_parameters_are_in_the_label():
    assert labels(
        ("average", {}),
        ("mask-fisher", {"normalize": ["none", "mean"]}),
        ("task-arithmetic", {"scale": [0.3, 0.5, 1]}),
        ("dare-ties", {"density": [0.1, 0.2], "seed": [0, 1]}),
    ) == [
        "average",
        "mask-fisher, normalize none",
        "mask-fisher, normalize mean",
        "task-arithmetic, scale 0.3",
        "task-arithmetic, scale 0.5",
        "task-arithmetic, scale 1",
        "dare-ties, density 0.1, seed 0",
        "dare-ties, density 0.1, seed 1",
        "dare-ties, density 0.2, seed 0",
        "dare-ties, density 0.2, seed 1",
    ]


def test_a_variant_is_made_once_and_one_alone_has_the_name_of_its_rule():
    assert labels(("average", {}), ("average", {}), ("ties", {"scale": [1, 1.0]})) == [
        "average",
        "ties",
    ]


def test_what_a_method_says_comes_before_what_all_are_told():
    methods = [("ties", {"density": 0.5}), ("dare-ties", {})]
    ties, dare = variants(methods, {"density": 0.3, "scale": 2})
    assert ties.parameters == {"scale": 2.0, "density": 0.5}
    assert dare.parameters == {"scale": 2.0, "density": 0.3, "seed": 0}


@pytest.mark.parametrize(
    ("method", "own", "defaults", "message"),
    [
        ("ties", {"densty": 1}, {}, "unknown parameter of ties 'densty'; did you mean 'density'"),
        ("average", {"scale": 0.5}, {}, "average has no parameter scale; leave it out, or use one"),
        ("average", {}, {"scale": 0.5}, "average has no parameter scale"),
        ("ties", {"scale": []}, {}, "scale: an empty list; expected at least one value"),
        ("ties", {"scale": [0.5, 0]}, {}, "scale: 0 is impossible; expected a number above 0"),
        ("ties", {"scale": "much"}, {}, "scale: 'much' is impossible; expected a number above 0"),
        ("mask-fisher", {"normalize": "l1"}, {}, "'l1' is impossible; expected one of none, mean"),
        ("dare-ties", {"seed": 0.5}, {}, "seed: 0.5 is impossible; expected a whole number from 0"),
        ("ties", {"scale": 10**400}, {}, "scale: 10+ is impossible; expected a number above 0"),
        ("dare-ties", {"seed": True}, {}, "seed: True is impossible; expected a whole number"),
    ],
)
def test_what_cannot_be_said_is_refused_in_a_line(method, own, defaults, message):
    with pytest.raises(ParamsError, match=message) as error:
        variants([(method, own)], defaults)
    assert "\n" not in str(error.value)


def test_values_that_differ_in_the_seventh_digit_have_labels_of_their_own():
    made = variants([("task-arithmetic", {"scale": [0.1234567, 0.1234568, 0.3]})], {})
    assert [variant.label.rpartition(" ")[2] for variant in made] == [
        "0.1234567",
        "0.1234568",
        "0.3",
    ]


@pytest.mark.parametrize(
    ("method", "name", "value", "expected"),
    [
        ("ties", "scale", np.float32(0.5), 0.5),
        ("ties", "scale", "1e-1", 0.1),  # which YAML takes for a text
        ("ties", "scale", 1, 1.0),
        ("dare-ties", "seed", np.int64(2), 2),
        ("dare-ties", "seed", 2.0, 2),
        ("dare-ties", "seed", 10**400, 10**400),
    ],
)
def test_numbers_come_as_pythons(method, name, value, expected):
    number = get_rule(method).settings({name: value})[name]
    assert number == expected and type(number) is type(expected)


def test_a_rule_says_what_people_need_to_know():
    assert get_rule("ties").help == (
        "Trimmed differences from the parent that agree in sign. Needs the parent of the models. "
        "scale (1): of the merged task vector; 1 goes as far from the parent as the method says; a "
        "number above 0. density (0.2): share of each task vector that is kept; 1 keeps "
        "everything; a number above 0 to 1."
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (lambda: (Parameter("dtype", 1.0, ""),), "cannot be called 'dtype'"),
        (lambda: (Parameter("a b", 1.0, ""),), "bad parameter name 'a b'"),
        (lambda: (Parameter("a", 2.0, "", maximum=1),), "a: 2 is impossible"),
        (lambda: (Parameter("a", 1.0, ""), Parameter("a", 2.0, "")), "has two parameters 'a'"),
    ],
)
def test_a_rule_that_could_not_be_used_is_refused_when_it_is_made(parameters, message):
    with pytest.raises(ParamsError, match=message):
        Rule("x", "", "", lambda part: part.tensors[0], parameters=parameters())
