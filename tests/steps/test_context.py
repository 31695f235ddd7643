import shutil
import weakref

import pytest
import torch
from tokenizers import processors

from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError, DataError, FmnError
from fmn.evaluation import get_task
from fmn.models import load_model
from fmn.recipe import FisherSettings
from fmn.statistics import get_statistic
from fmn.steps.context import Context, Quiet
from fmn.steps.statistic import StatisticStep
from fmn.store import Memo
from tests.evaluation.conftest import make_tokenizer
from tests.families import tiny
from tests.steps.world import write_split

SST2 = get_task("sst2")


@pytest.mark.parametrize("device", ["tpu?", "cuda:99", "meta", "hpu", ""])
def test_a_device_that_is_not_there_is_said_before_a_model_is_loaded(device, world, monkeypatch):
    monkeypatch.setattr("fmn.models.load_model", lambda path: pytest.fail("loaded"))
    with pytest.raises(
        FmnError, match=r"device '.*' cannot be used here; choose cpu, cuda, cuda:1, … or auto"
    ):
        Context(device=device).model(open_checkpoint(world.model("sst2")))


def test_the_device_may_be_left_open():
    assert Context().torch_device() in ("cpu", "cuda")


def test_models_and_tokenizers_are_loaded_once(world):
    context, opened = Context(), open_checkpoint(world.model("sst2"))
    assert context.model(opened) is context.model(opened)
    assert context.tokenizer(opened) is context.tokenizer(opened)


def test_room_is_made_before_a_model_is_loaded(world, monkeypatch):
    one, other = (open_checkpoint(world.model(name)) for name in ("sst2", "rte"))
    context = Context(model_bytes=sum(tensor.nbytes for tensor in one.tensors.values()))
    first, loaded = weakref.ref(context.model(one)), []

    def load(path, dtype):
        loaded.append(first() is None)
        return load_model(path, dtype)

    monkeypatch.setattr("fmn.models.load_model", load)
    context.model(other)
    assert loaded == [True]


def test_a_body_takes_no_memory_until_a_merge_is_put_into_it(world):
    context, opened = Context(), open_checkpoint(world.model("sst2"))
    model, body = context.model(opened), context.body(opened)
    pairs = dict(zip(model.parameters(), body.parameters(), strict=True))
    assert all(
        one is not other and one.data_ptr() == other.data_ptr() for one, other in pairs.items()
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in body.parameters():
        parameter.data = torch.zeros_like(parameter.data)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert context.body(opened) is body and all(
        torch.equal(t, before[name]) for name, t in body.state_dict().items()
    )


def test_quiet_shows_no_bar_and_warns_as_python_does():
    with Quiet().track("nothing", 3) as advance:
        advance(2)
    with pytest.warns(UserWarning, match="mind the gap"):
        Quiet().warn("mind the gap")


def encode(context, folder, source, max_length=128):
    return context.encode(
        open_checkpoint(folder),
        str(source),
        SST2,
        "train",
        max_length=max_length,
        limit=None,
        seed=None,
    )


def test_examples_that_are_too_long_for_the_model_are_refused(world, tmp_path):
    write_split(tmp_path, "sst2", "train", {"sentence": ["the " * 90, "a"], "label": [0, 1]})
    with pytest.raises(
        DataError,
        match=(
            "sst2/train has an example of 92 tokens, but the model reads 40; set the maximal "
            "length to 40"
        ),
    ):
        encode(Context(), world.model("sst2"), tmp_path)
    assert encode(Context(), world.model("sst2"), tmp_path, max_length=40).lengths.max() == 40


def test_positions_that_start_after_the_padding_are_counted_so(tmp_path):
    model = tiny(
        "roberta", num_labels=2, pad_token_id=1, vocab_size=50
    )  # 40 positions, of which the first two are never used
    model.save_pretrained(tmp_path / "roberta")
    make_tokenizer().save_pretrained(tmp_path / "roberta")
    write_split(tmp_path, "sst2", "train", {"sentence": ["the " * 90, "a"], "label": [0, 1]})
    with pytest.raises(DataError, match="the model reads 38"):
        encode(Context(), tmp_path / "roberta", tmp_path, max_length=39)
    encoded = encode(Context(), tmp_path / "roberta", tmp_path, max_length=38)
    ((_, batch),) = encoded.batches(2)
    model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    )  # transformers agrees


def test_tokens_that_the_model_does_not_know_are_refused(world, tmp_path):
    folder = shutil.copytree(world.model("sst2"), tmp_path / "model")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(20)])
    tokenizer.save_pretrained(folder)
    write_split(tmp_path, "sst2", "train", {"sentence": ["the word19"], "label": [0]})
    with pytest.raises(
        CheckpointError, match="its tokenizer gives token 41, but the model knows 32"
    ):
        encode(Context(), folder, tmp_path)


def test_a_text_without_a_token_is_refused(world, tmp_path):
    folder = shutil.copytree(world.model("sst2"), tmp_path / "model")
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", special_tokens=[]
    )
    tokenizer.save_pretrained(folder)
    write_split(tmp_path, "sst2", "train", {"sentence": ["the", ""], "label": [0, 1]})
    with pytest.raises(
        DataError,
        match=r"its tokenizer makes no token of example 1 \(from 0\) of sst2/train; drop it",
    ):
        encode(Context(), folder, tmp_path)


@pytest.mark.parametrize("own", [None, -1, 3])
def test_a_decoders_fisher_does_not_depend_on_what_pads_its_examples(own, tmp_path):
    """A decoder finds the end of a text by its own padding token; the tokenizer's may be
    another."""
    tiny(
        "gpt2", "SequenceClassification", num_labels=2, pad_token_id=own, dtype=torch.float32
    ).save_pretrained(tmp_path / "gpt2")
    make_tokenizer().save_pretrained(tmp_path / "gpt2")  # pads with 0
    write_split(
        tmp_path,
        "sst2",
        "train",
        {
            "sentence": ["the cat sat on the mat", "the dog", "it was good", "no"],
            "label": [0, 1] * 2,
        },
    )
    opened = open_checkpoint(tmp_path / "gpt2")
    one, four = (
        StatisticStep(
            opened,
            SST2,
            str(tmp_path),
            get_statistic("mask"),
            FisherSettings(samples=4, batch_size=size),
            Memo(),
        ).compute(Context())
        for size in (1, 4)
    )
    for (name, alone), (_, together) in zip(one.tensors(), four.tensors(), strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-9, msg=name)
