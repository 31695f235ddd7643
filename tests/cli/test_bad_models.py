"""Models that cannot be used: one line, before anything expensive starts, and nothing left
behind."""

import json
import os
import pickle
import shutil

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from tests.cli.conftest import EVERY
from tests.evaluation.conftest import make_tokenizer
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
        (lambda f: other(f, hidden_size=24), "rte: 8 head channels; .*broken has 12 head channels"),
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
