import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest

from fmn.report import pictures
from fmn.report.charts import MOST_POINTS, charts, method_labels
from fmn.report.theme import CATEGORIES, TOKENS, ink_on
from tests.report.sample import HEADS, LAYERS, METHODS, NEURONS, make_report
from tests.report.test_looks import HOSTILE, hostile_report

DATA = make_report()
FOUND = charts(DATA)


def means(method, size=None):
    chosen = [
        merge
        for merge in DATA.merges
        if merge.method == method and size in (None, len(merge.parts))
    ]
    return {tuple(part.name for part in merge.parts): 100 * merge.mean for merge in chosen}


def test_pairs_are_there_both_ways_round_and_nothing_else():
    assert {chart.title for chart in FOUND.pairs} == set(METHODS)
    for chart in FOUND.pairs:
        expected = means(chart.title, 2)
        found = {(row["row"], row["column"]): row["mean"] for row in chart.rows}
        assert found == expected | {
            (second, first): mean for (first, second), mean in expected.items()
        }


def test_sizes_have_the_spread_over_combinations():
    for row in FOUND.sizes.rows:
        values = list(means(row["method"], row["size"]).values())
        q1, q3 = np.quantile(values, [0.25, 0.75])
        expected = {
            "mean": np.mean(values),
            "low": min(values),
            "high": max(values),
            "q1": q1,
            "q3": q3,
            "combinations": len(values),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert len(FOUND.sizes.rows) == 3 * 5


def test_methods_are_compared_on_the_same_combinations_the_better_one_first():
    found = {}
    for row in FOUND.methods.rows:
        found.setdefault(row["comparison"], {})[row["models"]] = row["difference"]
    assert len(found) == 3
    for comparison, differences in found.items():
        first, second = comparison.split(" − ")
        one, other = means(first), means(second)
        assert differences == pytest.approx(
            {" + ".join(names): one[names] - other[names] for names in one}
        )
        assert sum(differences.values()) > 0
        (wins,) = {row["wins"] for row in FOUND.methods.rows if row["comparison"] == comparison}
        assert wins == f"better in {sum(value > 0 for value in differences.values())} of 57"


def test_of_many_combinations_an_even_part_is_drawn_and_all_are_counted():
    data = make_report(
        [f"t{i}" for i in range(12)],
        sizes=(4,),
        methods=("average", "fisher"),
        layers=1,
        heads=1,
        neurons=1,
    )
    rows = charts(data).methods.rows
    assert len(rows) == MOST_POINTS
    assert rows[0]["wins"].endswith(f"of {len(list(combinations(range(12), 4)))}")


def test_heads_and_curves_are_the_fishers_values():
    for fisher in DATA.fishers:
        attention, feed_forward = fisher.values()
        cells = {(row["layer"], row["head"]): row["value"] for row in FOUND.heads[fisher.key].rows}
        assert len(cells) == LAYERS * HEADS
        np.testing.assert_allclose(
            [cells[at] for at in np.ndindex(LAYERS, HEADS)], attention.ravel(), rtol=1e-3
        )
        for layer in range(LAYERS):
            rows = [row for row in FOUND.curves[fisher.key].rows if row["layer"] == layer]
            assert 190 < len(rows) <= MOST_POINTS < NEURONS
            falling = -np.sort(-feed_forward[layer])
            ranks = [round(row["fraction"] * NEURONS - 0.5) for row in rows]
            np.testing.assert_allclose([row["value"] for row in rows], falling[ranks], rtol=1e-3)
            assert ranks[0] == 0 and falling[ranks[-1]] == falling[falling > 0][-1]
    zeros = sum((fisher.values()[0] == 0).sum() for fisher in DATA.fishers)
    assert (
        zeros == sum(row["text"] == "0" for chart in FOUND.heads.values() for row in chart.rows) > 0
    )


def test_runs_are_counted_the_latest_first():
    latest = max(DATA.runs, key=lambda run: run.at)
    rows = [row for row in FOUND.counts.rows if row["run"] == FOUND.counts.rows[0]["run"]]
    assert rows[0]["run"] == latest.at[:16].replace("T", " ")
    for outcome in ("computed", "cached"):
        counts = {row["kind"]: row["results"] for row in rows if row["outcome"] == outcome}
        assert counts == {kind: count for kind, count in getattr(latest, outcome).items() if count}
    assert sum(row["results"] for row in FOUND.counts.rows if row["outcome"] == "failed") == 1
    seconds = sum(run.seconds["merge"] for run in DATA.runs)
    assert sum(
        row["seconds"] for row in FOUND.seconds.rows if row["kind"] == "merge"
    ) == pytest.approx(seconds, abs=0.01)


def test_what_was_run_with_several_settings_is_told_apart_and_its_best_counts():
    data = make_report(("sst2", "rte"), ("average", "mask-fisher"), weights=(1.0, 2.0, 3.0))
    labels = method_labels(data)
    assert set(labels.values()) == {
        f"{method}, λ {how}" for method in ("average", "mask-fisher") for how in ("equal", "own")
    }
    own = [merge.mean for merge in data.merges if labels[merge.key] == "mask-fisher, λ own"]
    chart = next(chart for chart in charts(data).pairs if chart.title == "mask-fisher, λ own")
    assert {row["mean"] for row in chart.rows} == {100 * max(own)}


def test_what_has_no_data_has_no_chart():
    found = charts(make_report((), (), sizes=(), runs=0))
    assert not any(
        [
            found.pairs,
            found.sizes,
            found.methods,
            found.heads,
            found.curves,
            found.seconds,
            found.counts,
        ]
    )
    only = charts(make_report(("sst2", "rte"), ("average",), runs=0))
    assert only.sizes and not only.methods


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast():
    for tokens in TOKENS.values():
        for ground in ("paper", "raised", "chosen"):
            for ink in ("ink", "muted", "accent", "alarm"):
                assert contrast(tokens[ground], tokens[ink]) >= 4.5, (ground, ink)
        assert contrast(tokens["paper"], tokens["edge"]) >= 3
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    for fraction in np.linspace(0, 1, 101):
        assert contrast(to_hex(colormaps["cividis"](fraction)), ink_on(fraction)) >= 4.4
    assert len(set(CATEGORIES)) == len(CATEGORIES)


def texts(file):
    return [text.text for text in ET.parse(file).iter("{http://www.w3.org/2000/svg}text")]


def test_pictures_are_svg_files_with_the_same_numbers(tmp_path):
    made = pictures(DATA, tmp_path / "new")
    assert sorted(file.stem for file in made) == [
        "counts",
        "curves",
        "heads",
        "methods",
        "pairs",
        "seconds",
        "sizes",
    ]
    assert sorted((tmp_path / "new").iterdir()) == sorted(made)
    said = texts(tmp_path / "new" / "pairs.svg")
    for method in METHODS:
        assert method in said
        for mean in means(method, 2).values():
            assert said.count(f"{mean:.1f}") >= 2
    assert {"average", "2", "6", "merged models"} <= set(texts(tmp_path / "new" / "sizes.svg"))
    assert (
        sum(text.startswith("better in") for text in texts(tmp_path / "new" / "methods.svg")) == 3
    )
    before = {file.name: file.read_bytes() for file in made}
    assert {file.name: file.read_bytes() for file in pictures(DATA, tmp_path / "new")} == before


def test_pictures_of_names_that_mean_harm(tmp_path):
    (pairs,) = [file for file in pictures(hostile_report(), tmp_path) if file.stem == "pairs"]
    assert HOSTILE[0] in texts(pairs)
    assert b"<script" not in pairs.read_bytes()


def test_there_are_no_pictures_of_nothing(tmp_path):
    assert pictures(make_report((), (), sizes=(), runs=0), tmp_path) == []
