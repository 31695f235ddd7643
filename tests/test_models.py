import gc
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification, RobertaForMaskedLM
from transformers.utils import logging

from fmn.errors import CheckpointError, FmnError
from fmn.models import load_model, load_spread, load_tokenizer
from tests.evaluation.conftest import make_tokenizer
from tests.families import tiny


@pytest.fixture
def folder(tmp_path):
    tiny("bert", dtype=torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def reconfigure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_the_class_is_that_of_the_configuration(folder, tmp_path):
    model = load_model(folder)
    assert type(model) is BertForSequenceClassification
    assert not model.training
    expected = tiny("bert", dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    tiny("roberta", "MaskedLM", dtype=torch.float32).save_pretrained(tmp_path / "other")
    assert (
        type(load_model(tmp_path / "other")) is RobertaForMaskedLM
    )  # the output layer is tied, and not missing


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_the_dtype_is_the_checkpoints_or_what_is_asked_for(kept, tmp_path):
    tiny("bert", dtype=kept).save_pretrained(tmp_path)
    for asked, expected in (
        ("same", kept),
        ("bfloat16", torch.bfloat16),
        ("float32", torch.float32),
    ):
        assert {parameter.dtype for parameter in load_model(tmp_path, asked).parameters()} == {
            expected
        }


def places(model):
    return [parameter.device.type for parameter in model.parameters()]


def test_layers_that_do_not_fit_wait_on_disk(folder):
    pytest.importorskip("accelerate")
    model = load_spread(folder, "same", "cpu", {"device": "20KB"})
    assert set(places(model)) == {"cpu", "meta"}
    expected = load_model(folder)
    assert set(places(expected)) == {"cpu"}
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(input_ids=ids).logits, expected(input_ids=ids).logits)
    assert set(places(model)) == {"cpu", "meta"}
    assert set(places(load_spread(folder, "same", "cpu", {}))) == {
        "cpu"
    }  # there is room for all of it


def test_layers_are_stored_no_longer_than_the_model_is_there(folder, tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    model = load_spread(folder, "bfloat16", "cpu", {"cpu": "10KB"})
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    del model
    gc.collect()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_device_map_without_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        FmnError,
        match=(
            r"needs accelerate, which is not installed; install it with: pip install "
            r"'fisher-mask-nodes\[large\]'"
        ),
    ):
        load_spread(Path("nowhere"), "same", "cpu", {})


@pytest.mark.parametrize("names", [[], None, ["NoSuchModel"], ["utils"]])
def test_no_such_class(names, folder):
    reconfigure(folder, architectures=names)
    with pytest.raises(
        CheckpointError, match=r"config\.json names no model class that transformers has"
    ):
        load_model(folder)


def test_weights_that_are_missing(folder):
    reconfigure(folder, architectures=["BertForMaskedLM"])
    with pytest.raises(
        CheckpointError,
        match=(
            r"has no weights for cls\.predictions\.bias and \d more; is config\.json of this "
            r"model\?"
        ),
    ):
        load_model(folder)


def test_weights_of_another_shape(folder):
    reconfigure(folder, vocab_size=51)
    message = (
        r"word_embeddings\.weight has shape \[50, 16\], config\.json makes it \[51, 16\]; is "
        r"it of this model\?"
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_configuration_that_transformers_refuses(folder):
    reconfigure(folder, num_attention_heads=3)
    with pytest.raises(
        CheckpointError,
        match=r"transformers cannot load .*not a multiple of the number of attention heads",
    ) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_code_beside_a_checkpoint_is_never_run(folder):
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\nclass Evil: ...\n"
    )
    reconfigure(
        folder,
        auto_map={
            "AutoModel": "evil.Evil",
            "AutoModelForSequenceClassification": "evil.Evil",
            "AutoConfig": "evil.Evil",
        },
    )
    load_model(folder)
    make_tokenizer().save_pretrained(folder)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "auto_map": {"AutoTokenizer": ["evil.Evil", None]}
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    load_tokenizer(folder)
    assert not (folder / "ran").exists()


def test_loading_is_silent_and_leaves_the_settings_alone(folder, capfd):
    logging.enable_progress_bar()
    level = logging.get_verbosity()
    load_model(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, True)


def test_tokenizers(folder):
    with pytest.raises(
        CheckpointError, match=r"no tokenizer in .*; copy the parent's tokenizer files there"
    ):
        load_tokenizer(folder)
    make_tokenizer().save_pretrained(folder)
    assert load_tokenizer(folder).get_vocab() == make_tokenizer().get_vocab()
    (folder / "tokenizer.json").unlink()  # what is left says nothing of the words
    with pytest.raises(
        CheckpointError, match=r"no tokenizer in .*; copy the parent's tokenizer files there"
    ):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(CheckpointError, match="no tokenizer in") as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)
