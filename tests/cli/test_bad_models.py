"""Models that cannot be used: one line, before anything expensive starts, and nothing left
behind."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from tests.cli.conftest import EVERY, fmn, refused, succeeded
from tests.evaluation.conftest import make_tokenizer
from tests.families import tiny
from tests.soak import SOAK
from tests.steps.world import LABELS, SIZES, save


def truncate(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def no_config(folder):
    (folder / "config.json").unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def bad_names(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"id2label": {"0": "good", "1": "evil"}})
    )


@pytest.mark.parametrize("command", EVERY)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            truncate,
            r"broken/model\.safetensors is not a complete safetensors file .*; copy or download "
            r"it again",
        ),
        (shutil.rmtree, "no directory .*broken; expected a transformers directory"),
        (no_config, r"no config\.json in .*broken"),
        (no_weights, r"no weights in .*broken; expected model\.safetensors or pytorch_model\.bin"),
        (
            bad_names,
            r"the model's labels \(good, evil\) do not match those of task sst2 \(negative, "
            r"positive\)",
        ),
    ],
)
def test_models_that_cannot_be_used(command, damage, message, copy, commands, refuse, nothing_runs):
    folder = copy()
    damage(folder)
    refuse(message, *commands(folder)[command])


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="has no file that fails")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_the_system_cannot_read(name, copy, commands, refuse, tmp_path, nothing_runs):
    folder = copy()
    (folder / name).unlink()
    (folder / name).symlink_to("/proc/self/mem")  # reading it is an error of input and output
    made = commands(folder)
    for command in EVERY:
        refuse("broken.*Input/output error", *made[command])
    plan = json.loads(succeeded(fmn("plan", tmp_path / "params.yaml", "--json")).stdout)
    assert list(plan["broken"]) == ["sst2"]
    assert "Input/output error" in plan["broken"]["sst2"]
    assert plan["steps"]["merge"]["to_compute"] == 2  # of the other two, by two methods


def test_a_damaged_tokenizer_leaves_the_others_of_a_zoo(copy, commands, tmp_path, nothing_runs):
    folder = copy()
    (folder / "tokenizer.json").write_text("{")
    commands(folder)
    plan = json.loads(succeeded(fmn("plan", tmp_path / "params.yaml", "--json")).stdout)
    assert list(plan["broken"]) == ["sst2"]
    assert "its tokenizer's files cannot be read" in plan["broken"]["sst2"]


class Pickled:
    """Code that runs when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("command", EVERY)
def test_code_in_a_pickle_is_not_run(command, copy, commands, refuse, tmp_path, nothing_runs):
    folder, trace = copy(), tmp_path / "the code ran"
    (folder / "model.safetensors").unlink()
    for dump in (
        lambda content, file: file.write_bytes(pickle.dumps(content, protocol=2)),
        torch.save,
    ):
        dump({"bert.pooler.dense.bias": Pickled(trace)}, folder / "pytorch_model.bin")
        refuse(
            r"pytorch_model\.bin was refused: it is damaged or holds code",
            *commands(folder)[command],
        )
        assert not trace.exists()
    torch.load(
        folder / "pytorch_model.bin", weights_only=False
    )  # the code is real: this is how it would have run
    assert trace.exists()


def other(folder, kind=BertForSequenceClassification, config=BertConfig, **changes):
    torch.manual_seed(1)
    return save(kind(config(**{**SIZES, "num_labels": 2, **changes})), folder, LABELS["sst2"])


@pytest.mark.parametrize("command", ["merge", "run"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: other(f, ElectraForSequenceClassification, ElectraConfig),
            "rte: a bert model; .*broken is a electra model",
        ),
        (
            lambda f: other(f, hidden_size=24),
            "rte: 8 head channels, 16 hidden; .*broken has 12 head channels, 24 hidden",
        ),
        (lambda f: other(f, num_hidden_layers=3), "rte: 2 layers; .*broken has 3 layers"),
        (
            lambda f: other(f, vocab_size=40),
            r"embeddings\.word_embeddings\.weight has shape \[32, 16\], \[40, 16\] in .*broken; "
            r"expected fine-tunes",
        ),
    ],
)
def test_models_that_do_not_fit_together(
    command, make, message, commands, refuse, tmp_path, nothing_runs
):
    refuse(message, *commands(make(tmp_path / "broken"))[command])


@pytest.mark.parametrize("command", ["merge", "run"])
def test_tokenizers_that_differ(command, copy, commands, refuse, nothing_runs):
    folder, tokenizer = copy(), make_tokenizer()
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(folder)
    refuse(
        "its tokenizer's vocabulary differs from .*'extra'.*merge models that share one tokenizer",
        *commands(folder)[command],
    )


def test_a_family_that_is_unknown(copy, commands, refuse, nothing_runs):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "brt"}))
    for command in ("fisher", "merge", "run"):
        refuse("unknown model family 'brt'; did you mean 'bert'", *commands(folder)[command])


@pytest.mark.parametrize("command", ["fisher", "evaluate", "run"])
def test_a_model_without_a_tokenizer(command, copy, commands, refuse, nothing_runs):
    folder = copy()
    for file in folder.glob("*token*"):
        file.unlink()
    refuse(
        "no tokenizer in .*broken .*; copy the parent's tokenizer files there",
        *commands(folder)[command],
    )


@pytest.mark.parametrize("command", ["fisher", "evaluate"])
def test_a_damaged_tokenizer(command, copy, commands, refuse, nothing_runs):
    folder = copy()
    for content in ("{", "{}", '{"version": "1.0"}'):
        (folder / "tokenizer.json").write_text(content)
        refuse(
            "no tokenizer in .*broken .*; copy the parent's tokenizer files there",
            *commands(folder)[command],
        )


def test_a_configuration_of_another_model(copy, commands, refuse):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    message = (
        r"broken: bert\.encoder\.layer\.0\.intermediate\.dense\.bias has shape \[24\], "
        r"config\.json makes it \[20\]"
    )
    for command in ("fisher", "evaluate"):
        refuse(message, *commands(folder)[command])


@pytest.mark.parametrize("command", EVERY)
def test_weights_that_are_not_finite(command, world, commands, refuse, tmp_path):
    model = world.load("sst2")
    model.bert.encoder.layer[1].intermediate.dense.weight.data[0, 0] = float("nan")
    save(model, tmp_path / "broken")
    if command == "evaluate":
        refuse(
            "NaN or infinite logits for 40 of 40 examples of task sst2",
            *commands(tmp_path / "broken")[command],
        )
    else:
        refuse(
            "broken: the mask Fisher is not finite; does the model have NaN",
            *commands(tmp_path / "broken")[command],
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_in_an_average(value, world, refuse, tmp_path):
    model = world.load("sst2")
    model.bert.encoder.layer[1].intermediate.dense.weight.data[0, 0] = value
    more = {"sst2": {"model": str(save(model, tmp_path / "broken"))}}
    recipe = world.recipe(tmp_path / "recipe.yaml", method="average", models=more)
    message = (
        r"broken: encoder\.layer\.1\.intermediate\.dense\.weight holds NaN or infinite "
        r"values; nothing was written"
    )
    refuse(message, "merge", recipe, "--out", tmp_path / "out")


NAMES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "num_labels", "id2label", "label2id", "hidden_act"),
    *("pad_token_id", "model_type", "architectures", "dtype", "torch_dtype", "problem_type"),
    *("tie_word_embeddings", "type_vocab_size", "layer_norm_eps", "rms_norm_eps", "head_dim"),
    *("num_key_value_heads", "rope_parameters", "rope_scaling", "quantization_config", "auto_map"),
    *("hidden_dropout_prob", "classifier_dropout", "chunk_size_feed_forward", "return_dict"),
    *("text_config", "attn_implementation", "base_model_tp_plan", "output_attentions"),
)
MISSING = "missing"
WRONG = (
    *(MISSING, None, False, 0, -2, 1, 3, 1.5, float("nan"), float("inf"), 10**5, 10**6, 10**12),
    *("x", "\x1b[2J", "int8", "llama", "gpt2", "regression", [], ["x"], ["BertModel"], {}),
    *({"a": 1}, {"0": None, "1": []}, {"rope_type": "yarn"}, {"quant_method": "gptq", "bits": 4}),
)


@pytest.fixture(scope="module", params=["bert", "llama"])
def sound(request, world, tmp_path_factory):
    """A model of a family, to give other configurations."""
    if request.param == "bert":
        return world.model("sst2")
    model = tiny("llama", "SequenceClassification", dtype=torch.float32, num_labels=2)
    return save(model, tmp_path_factory.mktemp("llama") / "sst2", LABELS["sst2"])


def test_any_configuration(sound, world, tmp_path):
    """Each is read, or refused in one line; ``FMN_SOAK`` multiplies the examples."""
    folder = Path(shutil.copytree(sound, tmp_path / "broken"))
    config = json.loads((sound / "config.json").read_text())
    entries = [
        {"model": str(folder if task == "sst2" else world.model(task)), "task": task}
        for task in LABELS
    ]
    params, out = world.params(tmp_path / "params.yaml", models=entries), tmp_path / "out"
    task = ("--task", "sst2", "--data", world.data)
    commands = (
        ("fisher", folder, *task, "--samples", 2, "--out", out),
        ("evaluate", folder, *task, "--limit", 4),
        ("plan", params, "--json"),
    )

    @settings(max_examples=12 * SOAK, derandomize=True, database=None, deadline=60_000)
    @given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WRONG), min_size=1, max_size=2))
    def check(changes):
        broken = {name: each for name, each in (config | changes).items() if each is not MISSING}
        (folder / "config.json").write_text(json.dumps(broken))
        for command in commands:
            result = fmn(*command)
            if result.exit_code:
                refused(result, "")
            assert not any(ord(c) < 32 and c != "\n" for c in result.output), result.output
            out.unlink(missing_ok=True)

    check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_hidden_layers": 10**6},
            "num_hidden_layers is 1,000,000, the weights are",
        ),
        (
            {"num_hidden_layers": 1},
            r"a layer that config\.json leaves out",
        ),
        ({"hidden_size": 10**6}, "makes a model of .* numbers, the weights have"),
        ({"max_position_embeddings": 10**12}, "makes a model of .* numbers, the weights have"),
        ({"num_labels": 10**12}, "expected num_labels as a number from 1 to 100,000"),
        ({"hidden_act": "x"}, "transformers cannot load .*KeyError: 'x'"),
        ({"hidden_size": {}}, "expected hidden_size as a number"),
        ({"max_position_embeddings": "x"}, "transformers refuses this configuration"),
        ({"chunk_size_feed_forward": "x"}, "BertForSequenceClassification cannot be run"),
        ({"attn_implementation": "user/kernels"}, "code of the hub, which fmn does not run"),
    ],
)
def test_a_configuration_that_cannot_be(changes, message, copy, commands, refuse):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    for command in ("fisher", "evaluate"):
        refuse(message, *commands(folder)[command])


def test_numbers_in_a_configuration_that_json_lacks(copy, commands, tmp_path):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"time_step_limit": [0, float("inf")]}))
    succeeded(fmn(*commands(folder)["run"]))
