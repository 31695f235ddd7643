import inspect
from importlib import import_module
from importlib.metadata import version

import pytest

import fmn

EXPORTED = {
    "Catalog",
    "Query",
    "get_merge",
    "open_checkpoint",
    "FmnError",
    "Task",
    "register_task",
    "DiagonalFisher",
    "GramMatrices",
    "MaskFisher",
    "diagonal_fisher",
    "gram_matrices",
    "mask_fisher",
    "Merged",
    "Part",
    "Parameter",
    "Rule",
    "Statistic",
    "Estimate",
    "register_statistic",
    "load_merged",
    "merge",
    "register_rule",
}


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_what_is_exported_is_there_and_says_what_it_is(name):
    exported = getattr(fmn, name)
    assert exported is getattr(import_module(f"fmn.{fmn._HOME[name]}"), name)
    assert exported.__doc__


def test_dir_is_what_is_exported():
    assert dir(fmn) == sorted([*EXPORTED, "__version__"])
    assert fmn.__version__ == version("fisher-mask-nodes")


def test_the_version_of_a_checkout_that_nobody_installed(monkeypatch):
    monkeypatch.delitem(vars(fmn), "__version__", raising=False)
    monkeypatch.setattr(fmn, "DISTRIBUTION", "no-distribution-of-this-name")
    try:
        assert fmn.__version__ == "0+unknown"
    finally:
        del vars(fmn)["__version__"]


def test_type_checkers_see_the_same():
    source = inspect.getsource(fmn)
    assert all(f" as {name}\n" in source for name in EXPORTED)


def test_anything_else_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fmn' has no attribute 'mask_fischer'"):
        fmn.mask_fischer  # noqa: B018
    assert not hasattr(fmn, "no_such_thing")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "mask_fisher",
            {
                "labels": "true",
                "nodes": ("attention", "feed-forward"),
                "placement": "after-activation",
                "aggregation": "per-example",
                "device": None,
            },
        ),
        ("diagonal_fisher", {"labels": "expected", "device": None}),
    ],
)
def test_signatures(name, options):
    parameters = inspect.signature(getattr(fmn, name)).parameters
    assert list(parameters)[:2] == ["model", "batches"]
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [
        ("model", inspect.Parameter.empty),
        ("batches", inspect.Parameter.empty),
    ]
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert {option: keywords[option] for option in options} == options
    assert all(default is not inspect.Parameter.empty for default in keywords.values())


def test_every_error_is_one_that_a_person_can_mend():
    from fmn import errors

    tree = [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    ]
    assert len(tree) > 5
    assert all(issubclass(kind, fmn.FmnError) for kind in tree)
