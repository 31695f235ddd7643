import pytest
from pydantic import ValidationError

from fmn.errors import ParamsError
from fmn.schema import Frozen, parse, read_yaml


class Inner(Frozen):
    colour: str = "red"


class Outer(Frozen):
    name: str
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    perhaps: Inner | None = None


def complaint(content):
    with pytest.raises(ParamsError) as error:
        parse(Outer, content, "file.yaml")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_right_comes_out_frozen():
    outer = parse(Outer, {"name": "a", "several": [{"colour": "blue"}]}, "file.yaml")
    assert outer.several[0].colour == "blue"
    with pytest.raises(ValidationError):
        outer.name = "b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"nam": "a", "name": "a"},
            "file.yaml: unknown key 'nam'; did you mean 'name'? (known: inner, name, perhaps, "
            "several)",
        ),
        (
            {"name": "a", "zzzz": 1},
            "file.yaml: unknown key 'zzzz' (known: inner, name, perhaps, several)",
        ),
        (
            {"name": "a", "inner": {"color": 1}},
            "file.yaml: unknown key in inner 'color'; did you mean 'colour'? (known: colour)",
        ),
        (
            {"name": "a", "several": [{}, {"color": 1}]},
            "file.yaml: unknown key in several.1 'color'; did you mean 'colour'? (known: colour)",
        ),
        (
            {"name": "a", "perhaps": {"color": 1}},
            "file.yaml: unknown key in perhaps 'color'; did you mean 'colour'? (known: colour)",
        ),
        ({}, "file.yaml: name: Field required"),
        ({"name": 3}, "file.yaml: name: Input should be a valid string"),
        (
            {"inner": {"colour": []}},
            "file.yaml: name: Field required; inner.colour: Input should be a valid string",
        ),
        (["a"], "file.yaml must hold a mapping with the keys name, inner, several, perhaps"),
        (None, "file.yaml must hold a mapping with the keys name, inner, several, perhaps"),
    ],
)
def test_every_complaint_in_one_line(content, message):
    assert complaint(content) == message


def test_yaml(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text("labels: [no, yes]\nnumber: 3\nümlaut: é\n", encoding="utf-8")
    assert read_yaml(file) == {"labels": [False, True], "number": 3, "ümlaut": "é"}
    assert read_yaml(file, text_only=True) == {
        "labels": ["no", "yes"],
        "number": "3",
        "ümlaut": "é",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML: while parsing"),
        (
            b"a: !!python/object/apply:os.getcwd []",
            "is not YAML: could not determine a constructor",
        ),
        (b"a: 2020-13-45", "is not YAML: month must be in 1..12"),
        (b"\xff\xfe\x00", "cannot read .*: not UTF-8 text"),
    ],
)
def test_what_is_no_yaml(content, message, tmp_path):
    (tmp_path / "file.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=message) as error:
        read_yaml(tmp_path / "file.yaml")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ParamsError, match=r"cannot read .*none\.yaml: No such file or directory"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ParamsError, match=r"cannot read .*: Is a directory"):
        read_yaml(tmp_path)
