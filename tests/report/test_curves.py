"""Curves: every point where it belongs, and the same picture the same bytes."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fmn.report.canvas import save_figure
from fmn.report.curves import Panel, Point, draw_curves

CURVES = {
    "one": [Point("2", 90.0, 85.0, 95.0), Point("3", 80.0, 80.0, 80.0)],
    "two_$x$": [Point("3", 70.0, 60.0, 75.0)],
}
PANELS = [
    Panel("Left", "models", "%", ("2", "3", "4"), CURVES),
    Panel("Right", "examples", "%", ("128", "all"), {"two_$x$": [Point("all", 50.0, 50.0, 50.0)]}),
]


def test_points_and_whiskers_are_where_they_belong():
    left, right = draw_curves(PANELS, "Title").axes
    for container, (name, points) in zip(left.containers, CURVES.items(), strict=True):
        line, _, (whiskers,) = container.lines
        assert line.get_ydata().tolist() == [point.value for point in points], name
        assert np.round(line.get_xdata().astype(float)).tolist() == [
            ("2", "3", "4").index(point.at) for point in points
        ]
        ends = [(segment[0][1], segment[1][1]) for segment in whiskers.get_segments()]
        assert ends == [(point.low, point.high) for point in points]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["2", "3", "4"]
    assert right.containers[0].lines[0].get_color() == left.containers[1].lines[0].get_color()


def test_one_legend_for_all_panels():
    (legend,) = draw_curves(PANELS, "Title").legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two_$x$"]


@pytest.mark.parametrize("panels", [1, 2])
def test_the_legend_is_within_the_picture(panels):
    names = ("averaging", "mask Fisher", "published code", "full Fisher", "task-arithmetic")
    curves = dict.fromkeys(names, CURVES["one"])
    figure = draw_curves([Panel("Left", "models", "%", ("2", "3"), curves)] * panels, "Title")
    FigureCanvasAgg(figure).draw()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1
    assert whole.y0 <= legend.y0 and legend.y1 <= whole.y1


def test_the_same_curves_are_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg", "a.svg"):
        save_figure(draw_curves(PANELS, "Title"), tmp_path / name, replace=True)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
