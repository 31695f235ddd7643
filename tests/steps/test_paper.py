"""The paper's tables as read, the speed-up, and what of a made-up reproduction stands beside."""

from statistics import fmean
from types import SimpleNamespace

import pytest

from fmn.steps.reproduce.beside import beside
from fmn.steps.reproduce.paper import STATED_GAIN, STATED_SPEED_UPS, read_paper, speed_ups
from fmn.steps.reproduce.protocol import Column
from fmn.steps.reproduce.results import ColumnResult, Results
from fmn.steps.zoo.leaderboard import Row, ZooReport

MODELS = ("bert-tiny", "bert-base", "bert-large", "roberta")
TASKS = ("mnli", "qqp", "qnli", "sst2", "mrpc", "rte")
HALF = 0.0005
"""Seconds by which a printed figure may be off: half of its last digit."""


def test_every_cell_of_the_tables_is_read():
    paper = read_paper()
    assert (paper.models, paper.tasks) == (MODELS, TASKS)
    fishers = {(m, n) for m in ("fisher", "mask-fisher") for n in (128, 2048, 32768)}
    assert paper.normalised.keys() == {("average", None), *fishers}
    assert all(set(row) == set(MODELS) for row in paper.normalised.values())
    assert paper.normalised["mask-fisher", 128]["roberta"] == 92.7
    assert paper.normalised["average", None]["bert-tiny"] == 90.8
    assert paper.seconds.keys() == paper.means.keys() == {"mask-fisher", "fisher"}
    for by_task in paper.seconds.values():
        assert tuple(by_task) == TASKS
        assert all(tuple(row) == MODELS for row in by_task.values())
    assert paper.seconds["mask-fisher"]["qnli"]["bert-large"] == 4.321
    assert paper.seconds["fisher"]["rte"]["bert-tiny"] == 17.011


def test_the_gains_are_those_that_the_paper_states():
    paper = read_paper()
    gains = {
        (method, examples, model): gain
        for method, examples in paper.normalised
        for model, gain in paper.gains(method, examples).items()
        if method == "mask-fisher"
    }
    best = max(gains, key=lambda key: gains[key])
    assert best == ("mask-fisher", 128, "roberta")
    assert gains[best] == pytest.approx(STATED_GAIN)
    tiny = [gains["mask-fisher", examples, "bert-tiny"] for examples in (128, 2048, 32768)]
    assert tiny == pytest.approx([-4.7, -2.4, -2.1])


def test_the_speed_ups_are_those_that_the_paper_states_up_to_rounding():
    paper = read_paper()
    by_task = paper.speed_ups()
    means = {model: fmean(by_task[task][model] for task in TASKS) for model in MODELS}
    rounded = {model: round(mean, 1) for model, mean in means.items()}
    assert rounded == {"bert-tiny": 322.0, "bert-base": 66.2, "bert-large": 57.4, "roberta": 69.4}
    full, mask = paper.seconds["fisher"], paper.seconds["mask-fisher"]
    for stated, model in zip(STATED_SPEED_UPS, ("bert-large", "bert-tiny"), strict=True):
        least, most = (
            fmean((full[t][model] - off) / (mask[t][model] + off) for t in TASKS)
            for off in (HALF, -HALF)
        )
        assert least < stated + 0.05
        assert stated - 0.05 < most
        assert means[model] == pytest.approx(stated, rel=2e-3)
        of_means = paper.means["fisher"][model] / paper.means["mask-fisher"][model]
        assert of_means < 0.97 * stated


def test_printed_means_are_near_those_of_the_rows():
    paper = read_paper()
    for method, printed in paper.means.items():
        for model, mean in printed.items():
            of_rows = fmean(row[model] for row in paper.seconds[method].values())
            assert mean == pytest.approx(of_rows, rel=0.04)


def test_a_speed_up_is_of_a_task_that_both_have():
    full, mask = {"a": 10.0, "b": 60.0, "c": 1.0}, {"b": 2.0, "a": 1.0, "d": 3.0, "c": 0.0}
    assert speed_ups(full, mask) == {"b": 30.0, "a": 10.0}


def column(method, scores, seconds):
    """Return a made-up column: one pair, and a Fisher of each model over 128 examples."""
    own = {"sst2": 1.0, "mine": 0.5}
    graph = SimpleNamespace(zoo=SimpleNamespace(combinations=lambda: iter([tuple(own)])))
    rows = [Row(method, dict(zip(own, scores, strict=True)))] if scores else []
    records = {
        name: SimpleNamespace(made=SimpleNamespace(seconds=taken))
        for name, taken in zip(own, seconds, strict=False)
    }
    made = Column(method, 128 if seconds else None, exhausted=not seconds, graph=graph)
    return ColumnResult(made, ZooReport(own, rows, {}), records)


def made_up(*columns):
    """Return a reproduction with the paper's sst2 and a task that the paper does not have."""
    tasks = {"sst2": "sst2", "mine": "reviews"}
    return Results(tuple(tasks), (2,), columns, tasks, (("hardware", "a GPU", "an abacus"),))


AVERAGE = column("average", (0.9, 0.4), ())
MASK = column("mask-fisher", (0.95, 0.475), (0.5, 2.0))
CODE = column("published-code", (0.7, 0.35), (1.0, 4.0))
FULL = column("fisher", (), (10.0, 80.0))


def rows_of(results):
    return {table.name: {row[:2]: row[2:] for row in table.rows} for table in beside(results)}


def test_scores_and_gains_stand_beside_table_1():
    tables = rows_of(made_up(AVERAGE, MASK, CODE, FULL))
    scores, gains = tables["paper-scores"], tables["paper-gains"]
    assert list(scores)[:4] == [
        ("averaging", ""),
        ("mask Fisher", "128"),
        ("published code", "128"),
        ("full Fisher", "128"),
    ]
    assert len(scores) == 10
    papers = ("90.8", "91.2", "85.8", "86.2")
    assert scores["averaging", ""] == ("85.00", *papers, "-5.80", "-6.20", "-0.80", "-1.20")
    papers = ("86.1", "95.2", "90.1", "92.7")
    assert scores["mask Fisher", "128"] == ("95.00", *papers, "+8.90", "-0.20", "+4.90", "+2.30")
    gaps = ("-16.10", "-25.20", "-20.10", "-22.70")
    assert scores["published code", "128"] == ("70.00", *papers, *gaps)
    papers = ("89.6", "92.0", "87.0", "91.5")
    assert scores["full Fisher", "128"] == ("", *papers, "", "", "", "")
    assert scores["mask Fisher", "2,048"][0] == ""
    papers = ("-4.7", "+4.0", "+4.3", "+6.5")
    gaps = ("+14.70", "+6.00", "+5.70", "+3.50")
    assert gains["mask Fisher", "128"] == ("+10.00", *papers, *gaps)
    assert len(gains) == 9


def test_seconds_stand_beside_tables_2_and_3():
    tables = rows_of(made_up(AVERAGE, MASK, FULL))
    seconds = tables["paper-seconds"]
    names = [*TASKS, "mine", "mean"]
    assert list(seconds) == [(m, n) for m in ("mask Fisher", "full Fisher") for n in names]
    papers = ("0.046", "0.565", "3.624", "0.516")
    gaps = ("+0.454", "-0.065", "-3.124", "-0.016")
    assert seconds["mask Fisher", "sst2"] == ("0.500", *papers, *gaps)
    assert seconds["mask Fisher", "rte"] == ("", "0.053", "1.251", "5.047", "1.307", *[""] * 4)
    assert seconds["mask Fisher", "mine"] == ("2.000", *[""] * 8)
    papers = ("17.101", "58.009", "214.299", "59.383")
    gaps = ("+27.899", "-13.009", "-169.299", "-14.383")
    assert seconds["full Fisher", "mean"] == ("45.000", *papers, *gaps)


def test_the_speed_up_is_the_mean_of_ratios_on_both_sides():
    speed_up = rows_of(made_up(MASK, CODE, FULL))["paper-speed-up"]
    assert speed_up["mask Fisher", "sst2"][:2] == ("20.00", "366.0")
    assert speed_up["mask Fisher", "mine"] == ("40.00", *[""] * 8)
    papers = ("322.0", "66.2", "57.4", "69.4")
    assert speed_up["mask Fisher", "mean"][:5] == ("30.00", *papers)  # 90 s / 2.5 s would be 36
    large = fmean(of["bert-large"] for of in read_paper().speed_ups().values())
    assert float(speed_up["mask Fisher", "mean"][7]) == pytest.approx(30 - large, abs=0.006)
    assert speed_up["published code", "mean"][:5] == ("15.00", *papers)


def test_means_over_other_tasks_are_told():
    tables = {table.name: table for table in beside(made_up(MASK, FULL))}
    note = f"Means: here over reviews, sst2; the paper's over {', '.join(TASKS)}."
    for name in ("paper-seconds", "paper-speed-up"):
        assert note in tables[name].notes


def test_a_mean_over_a_part_of_the_models_is_none():
    part = column("mask-fisher", (), (0.5,))
    tables = rows_of(made_up(part, FULL))
    assert tables["paper-seconds"]["mask Fisher", "mean"][0] == ""
    assert tables["paper-speed-up"]["mask Fisher", "mean"][0] == ""
    assert tables["paper-speed-up"]["mask Fisher", "sst2"][0] == "20.00"


def test_what_was_not_measured_has_no_table():
    filled = {table.name for table in beside(made_up(AVERAGE)) if table.rows}
    assert filled == {"paper-scores", "paper-setup"}
    other = column("ties", (0.9, 0.4), ())
    assert not any(table.rows for table in beside(made_up(other)))
