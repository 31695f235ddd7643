"""Curves: every point where it belongs, alike in all panels."""

import re

import pytest

from fmn.report.charts.whiskers import NUDGE, WIDTH, Panel, Point, curve_slots, draw
from fmn.report.files import drawn
from fmn.report.inspect import draw_curves
from fmn.report.theme import CATEGORIES, colour_of, slots

CURVES = {
    "one": [Point("2", 90.0, 85.0, 95.0), Point("3", 80.0, 80.0, 80.0)],
    "two_$x$": [Point("3", 70.0, 60.0, 75.0)],
}
PANELS = [
    Panel("Left", "models", "%", ("2", "3", "4"), CURVES),
    Panel("Right", "examples", "%", ("128", "all"), {"two_$x$": [Point("all", 50.0, 50.0, 50.0)]}),
]
SLOTS = curve_slots(PANELS, {})


def test_the_rows_are_the_points_and_their_whiskers():
    left, right = (draw(panel, SLOTS) for panel in PANELS)
    for chart, panel in ((left, PANELS[0]), (right, PANELS[1])):
        rows = [
            (row["curve"], row["place"], row["value"], row["low"], row["high"])
            for row in chart.rows
        ]
        assert rows == [
            (name, point.at, point.value, point.low, point.high)
            for name, points in panel.curves.items()
            for point in points
        ]
        assert chart.spec["encoding"]["x"]["scale"]["domain"] == list(panel.places)


def test_whiskers_are_drawn_side_by_side_about_their_place():
    """The places of the drawn rules, read from the file."""
    svg = drawn(draw_curves(PANELS[:1], ""), ".svg").decode()
    marks = re.search(r'<g class="mark-rule role-mark.*?</g>', svg)[0]
    whiskers = re.findall(r'translate\(([\d.]+),[\d.]+\)" x2="0" y2="(\S+)" stroke="(#\w+)"', marks)
    places, heights, colours = zip(*whiskers, strict=True)
    first, second = WIDTH / 3 / 2, WIDTH / 3 * 1.5  # the middles of two of three places
    expected = [first - NUDGE / 2, second - NUDGE / 2, second + NUDGE / 2]
    assert [float(place) for place in places] == pytest.approx(expected)
    assert colours == tuple(CATEGORIES[SLOTS[name]] for name in ("one", "one", "two_$x$"))
    one, none, two = (abs(float(height)) for height in heights)
    assert (one / two, none) == pytest.approx(((95 - 85) / (75 - 60), 0))


def test_curves_of_one_name_have_one_colour_and_that_of_their_method():
    left, right = (draw(panel, SLOTS) for panel in PANELS)
    assert left.spec["encoding"]["color"]["scale"] == right.spec["encoding"]["color"]["scale"]
    slot_of = curve_slots(PANELS, {"one": "mask-fisher", "two_$x$": "average"})
    assert slot_of["one"] == slots({"x": "mask-fisher"})["x"]
    assert colour_of(slot_of["two_$x$"]) == CATEGORIES[0]


def test_one_key_for_all_panels():
    spec = draw_curves(PANELS, "Title")
    key, panels = spec["vconcat"]
    assert len(panels["concat"]) == 2
    assert [row["label"] for row in key["data"]["values"]] == ["one", "two_$x$"]
    svg = drawn(spec, ".svg").decode()
    assert svg.count(">two_$x$<") == svg.count(">one<") == 1
