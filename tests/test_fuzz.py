"""Files of a person, made wrong in thousands of ways: each is read, or refused in one line."""

import json
import struct

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fmn import checkpoint
from fmn.checkpoint import open_checkpoint
from fmn.errors import FmnError, MergeError
from fmn.evaluation import get_task
from fmn.params import read_params
from fmn.recipe import read_recipe
from fmn.report.fishers import node_tables, read_fisher
from fmn.schema import read_yaml
from fmn.statistics import Measurement, get_statistic
from tests.soak import fuzz

EXAMPLES = 40
SLOW = 20_000
"""Milliseconds that no file may take."""

MODEL = {"model": "a", "task": "sst2", "weight": 0.5, "labels": {"a": "b"}, "name": "one"}
PARAMS = {
    "store": "store",
    "models": [MODEL, {"model": "b", "task": "rte"}],
    "parent": "parent",
    "merge": {"methods": ["average", {"method": "ties", "parameters": {"scale": [1, 2]}}]},
    "fisher": {"samples": 4, "seed": None},
    "runner": {"kind": "dask", "address": "tcp://host:1", "memory": {"device_map": "auto"}},
}
RECIPE = {"method": "average", "models": [MODEL], "parent": {"model": "p"}, "parameters": {"x": 1}}
TASK = {"name": "mine", "columns": ["a", "b"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "hidden_size": 4,
    "id2label": {"0": "no", "1": "yes"},
    "text_config": {"vocab_size": 3},
}
HEADER = {
    "__metadata__": {"format": "pt", "kind": "mask", "inputs": "{}"},
    "heads": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
}

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**30, float("nan"), float("inf"), "", "~", "..", "/", "a" * 3_000]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["\x1b[2J", "a\x00b", "CON", "recipe.yaml", "s3://K:S3CRET@b", "\u202e", "[x]"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(content, path=()):
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, dict | list) else ():
        yield from places(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]


def changed(content):
    """Right files with one or two values replaced, or a key added."""

    @st.composite
    def draw_one(draw):
        broken = json.loads(json.dumps(content))
        for _ in range(draw(st.integers(1, 2))):
            path = draw(st.sampled_from(list(places(broken))))
            value = draw(VALUES)
            if not path:
                if isinstance(broken, dict):
                    broken[draw(st.text(max_size=5))] = value
                continue
            inner = broken
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
        return broken

    return draw_one()


def read_or_refused(read, *arguments):
    """Read; what is refused is one line that does nothing to a terminal and has no password."""
    try:
        return read(*arguments)
    except FmnError as error:
        lines = str(error).split("\n  - ") if isinstance(error, MergeError) else [str(error)]
        for line in lines:
            assert line and len(line) < 2_100, line
            assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in line)
            assert "S3CRET" not in line
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("content", "read"), [(PARAMS, read_params), (RECIPE, read_recipe)], ids=["params", "recipe"]
)
def test_descriptions(content, read, folder):
    @fuzz(EXAMPLES, deadline=SLOW)
    @given(changed(content))
    def check(broken):
        (folder / "file.yaml").write_text(yaml.safe_dump(broken), encoding="utf-8")
        read_or_refused(read, folder / "file.yaml")

    check()


@pytest.mark.soak
def test_tasks(folder):
    @fuzz(EXAMPLES, deadline=SLOW)
    @given(changed(TASK))
    def check(broken):
        (folder / "task.yaml").write_text(yaml.safe_dump(broken), encoding="utf-8")
        read_or_refused(get_task, str(folder / "task.yaml"))

    check()


@pytest.mark.soak
def test_any_text(folder):
    text = yaml.safe_dump(PARAMS).encode()

    @fuzz(EXAMPLES, deadline=SLOW)
    @given(st.binary(max_size=40), st.integers(0, len(text)), st.integers(0, 20))
    def check(piece, start, cut):
        (folder / "any.yaml").write_bytes(text[:start] + piece + text[start + cut :])
        read_or_refused(read_params, folder / "any.yaml")
        read_or_refused(read_yaml, folder / "any.yaml")

    check()


def safetensors(header, body=bytes(8)):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + body


@pytest.mark.soak
def test_headers_and_statistics(folder):
    @fuzz(EXAMPLES, deadline=SLOW)
    @given(changed(HEADER), st.binary(min_size=8, max_size=8))
    def check(header, body):
        file = folder / "file.safetensors"
        file.write_bytes(safetensors(header, body))
        result = read_or_refused(checkpoint.read, file)
        if result is not None:
            measurement = Measurement(*result)
            for kind in ("mask", "diagonal", "gram"):
                assert isinstance(measurement.kind, str)
                _ = get_statistic(kind).name
        fisher = read_or_refused(read_fisher, file)
        if fisher is not None and fisher[1]["kind"] == "mask":
            read_or_refused(node_tables, fisher[0])

    check()


@pytest.mark.soak
def test_headers_of_any_bytes(folder):
    content = safetensors(HEADER)

    @fuzz(EXAMPLES, deadline=SLOW)
    @given(st.binary(max_size=12), st.integers(0, len(content)), st.integers(0, 12))
    def check(piece, start, cut):
        file = folder / "bytes.safetensors"
        file.write_bytes(content[:start] + piece + content[start + cut :])
        read_or_refused(checkpoint.read, file)

    check()


@pytest.mark.soak
def test_configurations(folder):
    checkpoint.write(folder / "model.safetensors", {"a": np.zeros(2, np.float32)})

    @fuzz(EXAMPLES, deadline=SLOW)
    @given(changed(CONFIG))
    def check(broken):
        (folder / "config.json").write_text(json.dumps(broken), encoding="utf-8")
        opened = read_or_refused(open_checkpoint, folder)
        for name in ("num_attention_heads", "hidden_act") if opened else ():
            read_or_refused(opened.setting, name)

    check()


@pytest.mark.parametrize("name", ["num_attention_heads", "num_hidden_layers", "hidden_size"])
@pytest.mark.parametrize("size", [0, -2, 2.5, "2", True, 10**30, float("nan")])
def test_a_model_without_a_size(name, size, folder):
    checkpoint_folder = folder / "sizes"
    checkpoint_folder.mkdir(exist_ok=True)
    (checkpoint_folder / "config.json").write_text(json.dumps(CONFIG | {name: size}))
    with pytest.raises(FmnError, match=f"expected {name} as a number from 1 to"):
        open_checkpoint(checkpoint_folder)


def test_metadata_that_are_null(folder):
    (folder / "null.safetensors").write_bytes(safetensors({**HEADER, "__metadata__": None}))
    assert checkpoint.read(folder / "null.safetensors")[1] == {}


def test_architectures_that_are_no_list(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": float("nan")}))
    with pytest.raises(FmnError, match="expected architectures as a list of names"):
        open_checkpoint(folder)
