"""The same cells in every form, whatever is in them."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from fmn.report.documents import Table, comma_separated, latex, markdown

NASTY = r"a_b & 50% of {x} | #1 $~^\ <i>"
TABLE = Table(
    "odd",
    "Odd & ends, %",
    ("name", "of"),
    ("score, %", "s"),
    ((NASTY, "", "1.50", "2"), ("b", "c", "", "10.25")),
    ("100%.",),
)
SENTENCES = Table("words", "Words", ("what", "here"), (), (("a long story", "b"),))
LONG = Table("long", "For programs", ("a",), ("b",), (("x", "1"),), is_long=True)


def test_markdown_is_a_table_with_all_its_columns():
    text = markdown([TABLE, LONG])
    assert "For programs" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert [len(row) for row in cells] == [4] * 4
    assert [re.sub(r"\\([\\|])", r"\1", cell.strip()) for cell in cells[2]] == [
        NASTY,
        "",
        "1.50",
        "2",
    ]
    assert [cell.strip()[-1] for cell in cells[1]] == ["-", "-", ":", ":"]
    assert text.startswith("## Odd & ends, %\n\n|")
    assert text.endswith("\n100%.\n")


def test_csv_reads_back():
    assert list(csv.reader(io.StringIO(comma_separated(TABLE)))) == [
        list(TABLE.heading),
        *map(list, TABLE.rows),
    ]


def unescaped(text):
    """Return what LaTeX sets for one of our cells."""
    names = {
        "backslash": "\\",
        "asciitilde": "~",
        "asciicircum": "^",
        "less": "<",
        "greater": ">",
        "bar": "|",
    }
    text = re.sub(r"\\text(\w+)\{\}", lambda match: names[match[1]], text)
    return re.sub(r"\\([{}%&$#_])", r"\1", text)


def test_latex_says_the_same_and_leaves_nothing_open():
    text = latex([TABLE, SENTENCES, LONG])
    assert "For programs" not in text
    for kind in ("table", "tabular"):
        assert text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") == 2
    bare = re.sub(r"\\[{}]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    body = text.partition("\n")[2]  # the first line is a comment
    assert not re.search(r"(?<!\\)[%#$_~^]", body)
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    rows = [
        [unescaped(cell) for cell in re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\"))]
        for line in lines
    ]
    assert rows[1] == [NASTY, "", "1.50", "2"]
    assert rows[2] == ["b", "c", "", "10.25"]
    assert rows[4] == ["a long story", "b"]
    assert r"\begin{tabular}{llrr}" in text
    assert r"\begin{tabular}{p{0.45\linewidth}p{0.45\linewidth}}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path):
    (tmp_path / "tables.tex").write_text(latex([TABLE, SENTENCES]), encoding="utf-8")
    main = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables}\end{document}"
    )
    (tmp_path / "main.tex").write_text(main, encoding="utf-8")
    subprocess.run(
        ["pdflatex", "-halt-on-error", "main.tex"], cwd=tmp_path, check=True, capture_output=True
    )


def test_rows_are_as_long_as_the_heading():
    with pytest.raises(AssertionError):
        Table("t", "T", ("a",), ("b",), (("x",),))


def test_what_would_steer_a_terminal_is_replaced():
    table = Table("t", "T", ("a",), (), (("x\x1b[31m\u202e",),))
    assert "\x1b" not in markdown([table]) + latex([table])
