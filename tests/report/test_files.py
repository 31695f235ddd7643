"""Pictures as files: what they hold, and that the same one is the same bytes."""

import re
import xml.etree.ElementTree as ET
import zlib

import pytest
from PIL import Image

from fmn.errors import OutputError, ParamsError
from fmn.report import pictures
from fmn.report.charts.whiskers import Panel, Point
from fmn.report.files import SCALE, drawn, save
from fmn.report.inspect import draw_curves
from fmn.report.pdf import canonical
from tests.report.sample import HOSTILE, METHODS, hostile_report, make_report

DATA = make_report()
PANEL = Panel("Title", "models", "%", ("2", "3"), {"one": [Point("2", 90.0, 85.0, 95.0)]})
SPEC = draw_curves([PANEL], "A title with Жж, ∂ℓ² and <b>")
"""Texts in bold and not: two fonts, which a PDF holds."""


def pair_means(method):
    return [
        100 * merge.mean
        for merge in DATA.merges
        if merge.method == method and len(merge.members) == 2
    ]


def texts(file):
    return [text.text for text in ET.parse(file).iter("{http://www.w3.org/2000/svg}text")]


def test_pictures_are_svg_files_with_the_same_numbers(tmp_path):
    made = pictures(DATA, tmp_path / "new")
    assert sorted(file.stem for file in made) == [
        "counts",
        "curves",
        "maps",
        "methods",
        "pairs",
        "seconds",
        "sizes",
    ]
    assert sorted((tmp_path / "new").iterdir()) == sorted(made)
    words = texts(tmp_path / "new" / "pairs.svg")
    for method in METHODS:
        assert method in words
        for mean in pair_means(method):
            assert words.count(f"{mean:.1f}") >= 2
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


def test_files_are_what_their_suffix_says(tmp_path):
    for suffix in ("png", "svg", "pdf", "PNG"):
        save(SPEC, tmp_path / suffix / f"out.{suffix}")
    drawing = ET.parse(tmp_path / "svg" / "out.svg").getroot()
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    with Image.open(tmp_path / "png" / "out.png") as image:
        image.load()
        assert image.format == "PNG"
        sides = [SCALE * float(drawing.get(side)) for side in ("width", "height")]
        assert image.size == pytest.approx(sides, abs=SCALE)
    assert (tmp_path / "pdf" / "out.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(
        ParamsError,
        match=r"cannot draw a '\.gif' file; expected a name that ends in \.png, \.svg, \.pdf",
    ):
        save(SPEC, tmp_path / "out.gif")
    with pytest.raises(OutputError, match="exists already"):
        save(SPEC, tmp_path / "png" / "out.png")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [
        "out.PNG",
        "out.pdf",
        "out.png",
        "out.svg",
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_picture_is_the_same_file_whatever_was_drawn_before(suffix):
    first = drawn(SPEC, suffix)
    drawn(draw_curves([PANEL], "another"), suffix)
    assert {drawn(SPEC, suffix) for _ in range(5)} == {first}
    assert drawn(draw_curves([PANEL], "another"), suffix) != first


def objects(pdf):
    """The objects of a PDF by number, found by its table of references."""
    start = int(pdf[pdf.rindex(b"startxref") :].split()[1])
    table = pdf[start:].partition(b"trailer")[0]
    by_number = {}
    for number, place in enumerate(re.findall(rb"(\d{10}) \d{5} n", table), 1):
        text = pdf[int(place) :]
        assert text.startswith(b"%d 0 obj" % number)
        by_number[number] = text[: text.index(b"\nendobj")]
    return by_number


def test_a_canonical_pdf_is_a_whole_pdf():
    """Its table leads to every object, every reference to one, and its streams can be read."""
    by_number = objects(drawn(SPEC, ".pdf"))
    assert len(by_number) > 10
    streams = 0
    for text in by_number.values():
        head, _, stream = text.partition(b"\nstream\n")
        assert {int(number) for number in re.findall(rb"\b(\d+) 0 R\b", head)} <= set(by_number)
        if b"/FlateDecode" in head:
            length = int(re.search(rb"/Length (\d+)", head)[1])
            zlib.decompress(stream[:length])
            streams += 1
    assert streams > 2


def test_a_canonical_pdf_stays_as_it_is():
    pdf = drawn(SPEC, ".pdf")
    assert canonical(pdf) == pdf


def test_names_in_a_picture_are_text(tmp_path):
    """Formulas, escapes, marks of direction, markup and expressions."""
    names = ("$x$", "\x1b[31m \u202e", "<script>", "datum.value", "{'signal': 'width'}", "a\nb")
    curves = {name: [Point("2", 1.0, 0.0, 2.0)] for name in names}
    panel = Panel("datum['x'] <b>", "models", "%", ("2", "3"), curves)
    save(draw_curves([panel], "\x1b \u202e <i>"), tmp_path / "out.svg")
    words = texts(tmp_path / "out.svg")
    shown = ("$x$", "\ufffd[31m \ufffd", "<script>", "datum.value", "{'signal': 'width'}")
    for text in (*shown, "a\ufffdb", "datum['x'] <b>", "\ufffd \ufffd <i>"):
        assert text in words
