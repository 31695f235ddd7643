"""Texts that want to be more than they are: refused in one line, before it costs anything."""

import gzip
import json
import time
import tracemalloc

import pytest

from fmn.errors import FmnError, MergeError, TextError
from fmn.reading import read_json, read_yaml, unpacked
from fmn.visible import has_keys, visible, without_keys


def refused(read, *arguments, **settings):
    start = time.process_time()
    with pytest.raises(TextError) as error:
        read(*arguments, **settings)
    assert time.process_time() - start < 5
    assert str(error.value).isprintable() and len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 900 + b"]" * 900, "nested more than 32 deep"),
        (b'{"a":' * 1_000_000, "nested more than 32 deep"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice in one mapping"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"a": ' + b"9" * 101 + b"}", "a number of 101 digits"),
        (b'{"a": "\\ud800"}', "half of a character"),
        (b'{"\\uDFff": 1}', "half of a character"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"", "is not JSON: Expecting value"),
        (b'{"a": "\x1b[31m"}', "is not JSON: Invalid control character"),
        (b'["' + b'\\"' * 1_000_000, "is not JSON: Unterminated string"),
    ],
)
def test_json_that_is_refused(content, why):
    assert why in refused(read_json, content, "the file")


def test_json_that_is_read():
    content = {"a": "[" * 99 + '\\"' + "{" * 99, "b": [1, 2.5, None, "\N{GRINNING FACE}"]}
    assert read_json(json.dumps(content), "the file") == content
    assert read_json(json.dumps(content, ensure_ascii=False).encode(), "the file") == content
    assert read_json("[[[1]]]", "the file", deepest=3) == [[[1]]]
    assert "nested more than 2" in refused(read_json, "[[[1]]]", "the file", deepest=2)
    assert read_json("[Infinity]", "the file", finite=False) == [float("inf")]
    assert "more than 6 bytes" in refused(read_json, "[[[1]]]", "the file", largest=6)


BOMB = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)
LAUGHS = "a0: &a0 [1, 2]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOMB, "more than 200,000 values, with those that aliases stand for"),
        (LAUGHS, "more than 200,000 values, with those that aliases stand for"),
        ("&a [*a]", "the alias *a stands for itself"),
        ("a: &a {<<: *a}", "the alias *a stands for itself"),
        ("[" * 900, "nested more than 32 deep"),
        ("- " * 900, "nested more than 32 deep"),
        ("? " * 900, "nested more than 32 deep"),
        ("a: 1\nb: {c: 1, c: 2}", "the key 'c' twice in one mapping"),
        ("a: " + "1:" * 400_000 + "1", "a number of 800,001 digits"),
        ("a: " + "9" * 5_000, "a number of 5,000 digits"),
        ('a: "\\ud800"', "half of a character"),
        ("a: [", "is not YAML: while parsing"),
        ("a: \x1b[31m", "is not YAML: unacceptable character"),
        ("? [a]\n: 1", "is not YAML: while constructing a mapping"),
        ("a: " + "b" * (1 << 20), "more than 1,048,576 bytes"),
        ("a: 2020-13-45", "is not YAML: month must be in 1..12"),
        ("!!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
)
def test_yaml_that_is_refused(content, why):
    assert why in refused(read_yaml, content, "the file")


def test_yaml_that_is_read():
    content = "base: &base {a: 1}\none: {<<: *base, b: 2}\ntwo: [*base, *base]\n"
    expected = {"base": {"a": 1}, "one": {"a": 1, "b": 2}, "two": [{"a": 1}, {"a": 1}]}
    assert read_yaml(content, "the file") == expected
    assert read_yaml("[no, 1]", "the file", text_only=True) == ["no", "1"]
    assert read_yaml("", "the file") is None


def test_what_is_packed_is_unpacked_up_to_a_limit():
    packed = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    assert "more than 1,000 bytes when unpacked" in refused(unpacked, packed, "the pack", 1_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert len(unpacked(packed, "the pack", 50_000_000)) == 50_000_000
    assert "cut off" in refused(unpacked, packed[:-50], "the pack", 50_000_000)
    assert "is not gzip" in refused(unpacked, b"no gzip", "the pack", 1_000)


def test_controls_are_seen_and_do_nothing():
    text = "a\x1b[31m\x9b\x00\r\x7f\u202eb\ud800\n\t"
    assert visible(text) == ("a\\u001b[31m\\u009b\\u0000\\u000d\\u007f\\u202eb\\ud800\n\t")
    assert json.loads(visible('"\x9b\u202e"')) == "\x9b\u202e"
    assert visible("für λ, 日本語 \N{GRINNING FACE}") == "für λ, 日本語 \N{GRINNING FACE}"
    assert str(FmnError("no 'a\x1b[2J\nfmn: all is well'")) == (
        "no 'a\\u001b[2J\\nfmn: all is well'"
    )
    assert str(MergeError(["one\nline", "two"])).splitlines()[1:] == ["  - one\\nline", "  - two"]
    assert len(str(FmnError("a" * 100_000))) < 2_010


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://KEY:SECRET@bucket/prefix", "s3://***@bucket/prefix"),
        ("cannot read s3://KEY:SEC/RET+@bucket", "cannot read s3://***@bucket"),
        ("tcp://user@host:8786 and https://a:b@c", "tcp://***@host:8786 and https://***@c"),
        ("cannot read s3:/KEY:SEC/RET@bucket", "cannot read s3:/***@bucket"),
        ("{'a': 's3://K:S@b'}", "{'a': 's3://***@b'}"),
    ],
)
def test_passwords_in_addresses_are_masked(text, masked):
    assert without_keys(text) == masked
    assert has_keys(text) and "SEC" not in str(FmnError(text))


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b",
        "C:/a@b",
        "http://host:8080/a@b",
        "name@host",
        '"s3://a","b@c"',
        "s3://a and b@c",
    ],
)
def test_other_addresses_stay(text):
    assert without_keys(text) == text and not has_keys(text)
