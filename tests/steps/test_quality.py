"""The quality protocol on a small zoo: what is merged, what is said of it, what is refused."""

import csv
import io
from dataclasses import replace
from itertools import combinations

import pytest

from fmn.errors import FmnError, ParamsError
from fmn.params import Method
from fmn.report.documents import comma_separated
from fmn.steps.context import Context
from fmn.steps.reproduce import quality, quality_tables
from fmn.steps.reproduce.quality import QualityProtocol
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import zoo_report
from tests.steps.conftest import make_lab
from tests.steps.test_merge import refuse_to_compute
from tests.steps.world import LABELS

SHORT = QualityProtocol(
    methods=tuple(Method(method=name) for name in ("average", "mask-fisher", "slerp")),
    samples=(16, 8),
)
PAIRS = list(combinations(LABELS, 2))


def opened(lab, protocol=SHORT):
    return quality.open_quality(lab.params, protocol, lab.context().memo)


def done(lab, protocol=SHORT):
    """Run it; return the tally and what was kept."""
    slices, store = opened(lab, protocol), lab.store
    tally = quality.run_quality(slices, store, lab.context(), lambda line: None)
    return tally, quality.read_quality(slices, store)


def rows_of(kept, name):
    tables = {table.name: table for table in quality_tables.documents(kept, len(LABELS))}
    return list(csv.DictReader(io.StringIO(comma_separated(tables[name]))))


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    lab = make_lab(tmp_path_factory.mktemp("quality"), world, refit={"samples": 8})
    return lab, *done(lab)


def test_every_method_with_both_heads_of_all_models_and_pairs_and_fewer_examples_of_all(ran):
    _, _, kept = ran
    assert len(kept) == len({(e.models, e.method, e.heads, e.samples) for e in kept})
    seen = {(each.method, each.heads, each.samples) for each in kept if len(each.models) == 3}
    both = {("average", "own", None), ("average", "refit", 16), ("average", "refit", 8)}
    fishers = {("mask-fisher", heads, n) for heads in ("own", "refit") for n in (16, 8)}
    assert seen == both | fishers  # slerp merges two
    pairs = {(each.models, each.method) for each in kept if len(each.models) == 2}
    assert pairs == {(pair, m) for pair in PAIRS for m in ("average", "mask-fisher", "slerp")}
    assert {each.samples for each in kept if len(each.models) == 2} == {None, 16}


def test_sets_between_are_merged_by_the_leaders_with_refitted_heads(world, tmp_path):
    lab = make_lab(tmp_path, world)
    lab.described["models"] = [
        {**lab.described["models"][number % 3], "name": f"m{number}"} for number in range(4)
    ]
    slices = opened(lab, QualityProtocol(methods=(*SHORT.methods, Method(method="fisher"))))
    (between,) = (part for part in slices if part.title.startswith("sets between"))
    assert {len(each.models) for each in between.merges()} == {3}
    variants = between.graph.zoo.variants.values()
    assert {(v.rule.name, v.heads) for v in variants} == {
        ("average", "refit"),
        ("mask-fisher", "refit"),
    }


def test_what_is_said_of_a_merge_is_what_the_zoos_report_says(ran):
    lab, _, kept = ran
    for part in opened(lab):
        report = zoo_report(part.graph, lab.store)
        for row in report.rows:
            heads = part.graph.zoo.variants[row.method].heads
            (own,) = (
                each
                for each in kept
                if each.models == tuple(row.scores)
                and each.heads == heads
                and row.method.startswith(each.method)
                and each.samples in (None, part.samples)
            )
            assert own.mean == pytest.approx(report.mean(row))
            assert own.worst == pytest.approx(min(report.normalized(row).values()))
            assert own.interval[0] <= own.fair <= own.interval[1]
            assert own.seconds > 0
            assert (own.bytes > 0) == (own.samples is not None)


def test_needs_are_named(ran):
    _, _, kept = ran
    needs = {(each.method, each.heads): each.needs for each in kept}
    assert needs["average", "own"] == ()
    assert needs["average", "refit"] == ("head-states",)
    assert needs["mask-fisher", "refit"] == ("mask-fisher", "head-states")


def test_again_computes_nothing_and_an_interrupted_run_goes_on(ran, world, tmp_path, monkeypatch):
    lab, _, kept = ran
    assert quality.missing(opened(lab), lab.store)[0] == 0
    with monkeypatch.context() as patch:
        refuse_to_compute(patch)
        tally, again = done(lab)
    assert tally.is_hit
    assert again == kept

    other = make_lab(tmp_path, world, refit={"samples": 8})
    first, *_ = opened(other)
    quality.run_quality([first], other.store, other.context(), lambda line: None)
    lacking, count = quality.missing(opened(other), other.store)
    assert (lacking, count) == (len(kept) - 4, len(kept))
    assert len(quality.read_quality(opened(other), other.store)) == 4


def test_a_doubt_is_said_once_whatever_is_done(ran):
    lab, *_ = ran
    doubted = [
        replace(part, graph=Graph(replace(part.graph.zoo, doubts=("is it the parent?",))))
        for part in opened(lab)
    ]
    told = []
    with pytest.warns(UserWarning, match="is it the parent") as warned:
        quality.run_quality(doubted, lab.store, Context(device="cpu"), told.append)
    assert (len(told), len(warned)) == (3, 1)


def test_tables_say_what_was_kept(ran):
    _, _, kept = ran
    assert [row["method"] for row in rows_of(kept, "all")] == ["average", "mask-fisher"]
    assert [row["needs"] for row in rows_of(kept, "pairs")] == ["nothing", "mask-fisher", "nothing"]
    pairs = [e for e in kept if (len(e.models), e.method, e.heads) == (2, "average", "refit")]
    mean = 100 * sum(each.fair for each in pairs) / len(pairs)
    worst = 100 * min(each.worst for each in pairs)
    row = rows_of(kept, "pairs")[0]
    assert row["refitted heads"] == f"{mean:.1f} [{worst:.0f}]"
    every = rows_of(kept, "quality")
    assert len(every) == len(kept)
    columns = (
        "models method heads needs samples mean mean_above_chance worst low high seconds bytes"
    )
    assert list(every[0]) == columns.split()
    assert quality_tables.picture(kept, len(LABELS))
    assert quality_tables.picture(kept[:1], len(LABELS)) is None


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ({"sizes": (1, 2)}, r"sizes 1, 2: expected numbers from 2 to 3, the models there are"),
        ({"sizes": (4,)}, r"sizes 4: expected"),
        ({"sizes": ()}, r"sizes none: expected"),
        ({"samples": ()}, r"samples none: expected 1 or more examples"),
        ({"samples": (0,)}, r"samples 0: expected"),
        ({"methods": (Method(method="averag"),)}, r"averag.*average"),
        ({"methods": (Method(method="ties"),)}, r"ties needs the parent of the models; name it"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    lab, protocol, said, monkeypatch
):
    refuse_to_compute(monkeypatch)
    with pytest.raises(FmnError, match=said) as caught:
        opened(lab, QualityProtocol(**protocol))
    assert isinstance(caught.value, ParamsError)


def test_without_a_parent_methods_that_need_one_are_left_out_unless_they_are_asked_for(lab):
    first, *_ = opened(lab, QualityProtocol())
    names = {variant.rule.name for variant in first.graph.zoo.variants.values()}
    assert {"average", "mask-fisher", "regmean", "model-stock"} & names == {
        "average",
        "mask-fisher",
        "regmean",
    }
