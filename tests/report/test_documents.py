"""The same cells in every form, whatever is in them."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from fmn.errors import ParamsError
from fmn.report.documents import Table, beside, comma_separated, latex, markdown

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


def test_rows_of_others_are_put_below(tmp_path):
    (tmp_path / "odd.csv").write_text('\ufeffs,name\n7,"paper, one"\n8,two\n', encoding="utf-8")
    (tmp_path / "long.csv").write_text("nonsense")
    odd, long = beside([TABLE, LONG], tmp_path)
    assert odd.rows == (*TABLE.rows, ("paper, one", "", "", "7"), ("two", "", "", "8"))
    assert long == LONG


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,scor\nx,1\n", r"no column 'scor' here; did you mean 'score, %'"),
        ("name,of\nx\n", r"row 2 has 1 cells, expected 2"),
        ("", r"is not a table as CSV with a heading"),
        ('name\n"x\n', r"is not a table as CSV with a heading"),
    ],
)
def test_tables_of_others_that_do_not_fit(content, message, tmp_path):
    (tmp_path / "odd.csv").write_text(content)
    with pytest.raises(ParamsError, match=message) as error:
        beside([TABLE], tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_tables(tmp_path):
    with pytest.raises(ParamsError, match=r"has none of odd.csv; name a folder of such tables"):
        beside([TABLE, LONG], tmp_path)


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
