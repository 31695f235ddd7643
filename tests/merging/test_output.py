import json
import multiprocessing
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import fmn
from fmn import architectures, checkpoint
from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError, FmnError, OutputError
from fmn.merging import get_rule, load_merged, make_plan, write_merged
from fmn.models import load_model
from fmn.recipe import ModelEntry
from fmn.steps.member import as_source
from fmn.store import Memo
from tests.families import cases, examples, head_of, in_checkpoints, tiny
from tests.forks import forking
from tests.soak import SOAK


def plan_of(folders, method="average", dtype="same", weights=None, fishers=None):
    weights = weights or [1.0] * len(folders)
    entries = [
        ModelEntry(model=str(f), task=f.name, weight=w)
        for f, w in zip(folders, weights, strict=True)
    ]
    sources = [as_source(entry, open_checkpoint(entry.model), Memo()) for entry in entries]
    if fishers:
        sources = [
            replace(source, statistics={fishers[source.task].kind: fishers[source.task]})
            for source in sources
        ]
    return make_plan(sources, get_rule(method), {}, dtype)


def files(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and not f.is_symlink()
    }


@pytest.mark.parametrize(("name", "head"), cases())
def test_every_task_loads_in_transformers_and_answers_as_the_merge_in_memory(
    name, head, make_zoo, tmp_path
):
    folders = make_zoo(name, 2, head=head)
    originals = {folder.name: load_model(folder) for folder in folders}
    tiny_again = tiny(
        name, head, seed=0, num_labels=originals["t0"].config.num_labels, dtype=torch.float32
    ).state_dict()
    if not all(
        torch.equal(tensor, tiny_again[key]) for key, tensor in originals["t0"].state_dict().items()
    ):
        pytest.skip(
            "this transformers does not load what it saved: 4.50 loses the output bias of "
            "RoBERTa's language models"
        )
    fishers = {
        task: fmn.mask_fisher(model, [inputs(model, labelled=True)])
        for task, model in originals.items()
    }
    measurements = {task: fisher.measurement() for task, fisher in fishers.items()}
    write_merged(
        plan_of(folders, "mask-fisher", fishers=measurements),
        tmp_path / "merged",
        "method: mask-fisher\n",
    )
    in_memory = fmn.merge(originals, fishers=fishers, heads="merged")
    for task, original in originals.items():
        model, report = type(original).from_pretrained(
            tmp_path / "merged" / task, output_loading_info=True
        )
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        made, original_one = (
            tmp_path / kind / task / "generation_config.json" for kind in ("merged", "zoo")
        )
        assert made.is_file() == original_one.is_file()
        there, own = model.state_dict(), original.state_dict()
        assert there.keys() == own.keys()
        merged = in_memory[task]
        # models are added in the order of their digests, which are over names, and those are the
        # file's only without renaming
        ulps = 4 if architectures.get(name).renamed else 0
        for full, parameter in merged.named_parameters():
            torch.testing.assert_close(
                there[full], parameter, rtol=ulps * 2**-23, atol=ulps * 2**-23
            )
            assert torch.equal(parameter, own[full]) == (not in_checkpoints(name, full)), full
        logits = [
            each.eval()(**inputs(model)).logits
            for each in (model, load_merged(tmp_path / "merged", task), merged, original)
        ]
        assert torch.equal(logits[0], logits[1])
        torch.testing.assert_close(logits[0], logits[2])
        assert not torch.allclose(logits[0], logits[3])


@pytest.mark.parametrize("name", ["bert", "t5", "vit", "gpt2"])
def test_plain_averages_are_those_of_the_original_tensors(name, make_zoo, tmp_path):
    folders = make_zoo(name)
    write_merged(plan_of(folders), tmp_path / "merged", "method: average\n")
    states = [dict(load_model(folder).named_parameters()) for folder in folders]
    for full, parameter in load_merged(tmp_path / "merged", "t1").named_parameters():
        if in_checkpoints(name, full):
            torch.testing.assert_close(
                parameter, torch.stack([s[full] for s in states]).mean(0), rtol=1e-5, atol=1e-6
            )


def inputs(model, labelled=False):
    (example,) = examples(model, 1)
    batch = {
        key: value.float() if value.is_floating_point() else value for key, value in example.items()
    }
    labels = batch["labels"] if labelled else batch.pop("labels")
    if head_of(model) == "ConditionalGeneration" and not labelled:
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
    return batch


@pytest.mark.skipif(
    transformers.__version__.startswith("4."),
    reason="transformers 4 cannot read what 5 calls otherwise",
)
def test_names_of_older_files_are_understood(make_zoo, tmp_path):
    """A Gemma 3 as transformers saved it before version 5, beside one as it is saved now."""
    folders = make_zoo("gemma3", 2)
    means = {}
    for folder, inside in zip(folders, ("", "vision_model."), strict=True):
        tensors = open_checkpoint(folder).tensors
        plain = {
            name.replace("vision_tower.vision_model.", "vision_tower."): array
            for name, array in tensors.items()
        }
        for name, array in plain.items():
            means[name] = means.get(name, 0) + array.astype(float) / 2
        named = {
            name.replace("vision_tower.", f"vision_tower.{inside}"): array.copy()
            for name, array in plain.items()
        }
        (folder / "model.safetensors").unlink()
        checkpoint.write(folder / "model.safetensors", named)
    write_merged(plan_of(folders), tmp_path / "merged", "")
    for task in ("t0", "t1"):
        model = load_merged(tmp_path / "merged", task)  # refuses what is missing
        model.save_pretrained(tmp_path / "again" / task)
        again = open_checkpoint(tmp_path / "again" / task).tensors
        for name, array in again.items():
            mean = means[name.replace("vision_tower.vision_model.", "vision_tower.")]
            np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen2", "t5", "bart"])
def test_copies_of_tied_embeddings_are_not_written(name, make_zoo, tmp_path):
    """A file may hold what is tied a second time; after the merge that would be another matrix than
    the embeddings."""
    head = {"bert": "MaskedLM"}.get(name, "")
    folders = make_zoo(name, 2, head=head)
    for folder in folders:
        model = load_model(folder)
        state = {
            key: checkpoint.as_array(t.detach().clone())
            for key, t in model.state_dict().items()
            if t.is_floating_point()
        }
        assert len(state) > len(open_checkpoint(folder).tensors) or name == "bert"
        (folder / "model.safetensors").unlink()
        checkpoint.write(folder / "model.safetensors", state)
    write_merged(plan_of(folders), tmp_path / "merged", "")
    written = open_checkpoint(tmp_path / "merged" / "t0").tensors
    model = load_merged(tmp_path / "merged", "t0")
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    means = torch.stack(
        [load_model(folder).get_input_embeddings().weight for folder in folders]
    ).mean(0)
    torch.testing.assert_close(embeddings, means)
    copies = {
        "lm_head.weight",
        "cls.predictions.decoder.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
    }
    assert not copies & {key.removeprefix("model.") for key in written}


def test_a_head_of_a_language_model_that_ties_nothing_stays_with_its_task(make_zoo, tmp_path):
    folders = make_zoo("llama", 2)
    write_merged(plan_of(folders), tmp_path / "merged", "")
    for folder in folders:
        own = open_checkpoint(folder).tensors["lm_head.weight"]
        assert np.array_equal(
            open_checkpoint(tmp_path / "merged" / folder.name).tensors["lm_head.weight"], own
        )


def test_task_models_with_and_without_a_prefix(make_zoo, tmp_path):
    """T5 puts ``transformer.`` before its backbone's names in some classes, and nothing in
    others."""
    folders = make_zoo("t5", 1, head="ConditionalGeneration") + make_zoo(
        "t5", 1, head="SequenceClassification", first=1
    )
    write_merged(plan_of(folders), tmp_path / "merged", "")
    one, other = (load_merged(tmp_path / "merged", task) for task in ("t0", "t1"))
    assert (
        type(one).__name__ == "T5ForConditionalGeneration"
        and type(other).__name__ == "T5ForSequenceClassification"
    )
    assert torch.equal(one.shared.weight, other.transformer.shared.weight)
    assert torch.equal(
        one.decoder.block[2].layer[2].DenseReluDense.wo.weight,
        other.transformer.decoder.block[2].layer[2].DenseReluDense.wo.weight,
    )


def test_the_backbone_is_stored_once_and_linked(make_zoo, tmp_path):
    folders = make_zoo()
    plan = plan_of(folders)
    write_merged(plan, tmp_path / "merged", "", shard_bytes=8000)
    shards = sorted((tmp_path / "merged" / "backbone").iterdir())
    assert len(shards) > 2
    largest = max(spec.nbytes for spec in plan.specs.values())
    assert all(shard.stat().st_size <= max(8000, largest) + 4000 for shard in shards)
    for folder in folders:
        links = [f for f in (tmp_path / "merged" / folder.name).iterdir() if f.is_symlink()]
        assert sorted(link.resolve() for link in links) == shards
        assert not any(link.readlink().is_absolute() for link in links)
    (tmp_path / "merged").rename(tmp_path / "moved")
    assert load_merged(tmp_path / "moved", "t1").config.num_labels == 3


def test_the_same_models_in_any_order_give_the_same_bytes(make_zoo, tmp_path):
    folders = make_zoo(count=4)
    for name, order in (("one", [0, 1, 2, 3]), ("two", [3, 1, 0, 2])):
        write_merged(plan_of([folders[i] for i in order]), tmp_path / name, "")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_one_model_is_returned_as_it_is(make_zoo, tmp_path):
    (folder,) = make_zoo(count=1)
    write_merged(plan_of([folder]), tmp_path / "merged", "")
    before, after = open_checkpoint(folder), open_checkpoint(tmp_path / "merged" / "t0")
    assert after.digest() == before.digest()


def test_a_model_of_weight_zero_gives_its_head_only(make_zoo, tmp_path):
    folders = make_zoo(count=2)
    write_merged(plan_of(folders, weights=[1.0, 0.0]), tmp_path / "merged", "")
    kept, headed = (open_checkpoint(tmp_path / "merged" / name).tensors for name in ("t0", "t1"))
    original, other = (open_checkpoint(folder).tensors for folder in folders)
    assert all(np.array_equal(kept[name], original[name]) for name in original)
    assert np.array_equal(headed["classifier.weight"], other["classifier.weight"])
    assert np.array_equal(headed["bert.pooler.dense.weight"], original["bert.pooler.dense.weight"])


@pytest.mark.parametrize("form", ["shards", "pickle"])
def test_other_ways_of_storing_the_models_give_the_same_bytes(form, make_zoo, tmp_path):
    folders = make_zoo(count=2)
    write_merged(plan_of(folders), tmp_path / "one", "")
    model = transformers.BertForSequenceClassification.from_pretrained(folders[0])
    (folders[0] / "model.safetensors").unlink()
    if form == "shards":
        model.save_pretrained(folders[0], max_shard_size="20KB")
        assert len(list(folders[0].glob("*.safetensors"))) > 1
    else:
        torch.save(model.state_dict(), folders[0] / "pytorch_model.bin")
    write_merged(plan_of(folders), tmp_path / "two", "")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"),
    [("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float32", torch.float32)],
)
def test_dtype_of_the_result(dtype, torch_dtype, make_zoo, tmp_path):
    folders = make_zoo(count=2)
    exact = plan_of(folders)
    write_merged(exact, tmp_path / "exact", "")
    write_merged(plan_of(folders, dtype=dtype), tmp_path / "merged", "")
    wide = open_checkpoint(tmp_path / "exact" / "t0").tensors
    for name, array in open_checkpoint(tmp_path / "merged" / "t0").tensors.items():
        expected = torch.from_numpy(wide[name].copy()).to(torch_dtype)
        assert torch.equal(checkpoint.as_tensor(array), expected), name
    config = json.loads((tmp_path / "merged" / "t0" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == dtype


def test_same_keeps_bfloat16(make_zoo, tmp_path):
    write_merged(plan_of(make_zoo(count=2, dtype=torch.bfloat16)), tmp_path / "merged", "")
    assert {str(t.dtype) for t in open_checkpoint(tmp_path / "merged" / "t0").tensors.values()} == {
        "bfloat16"
    }


def test_nan_weights_stop_the_merge_and_leave_nothing(make_zoo, tmp_path):
    folders = make_zoo(count=2)
    model = transformers.BertForSequenceClassification.from_pretrained(folders[1])
    model.bert.encoder.layer[1].output.dense.weight.data[3, 2] = float("nan")
    model.save_pretrained(folders[1])
    with pytest.raises(
        FmnError, match=r"t1: encoder\.layer\.1\.output\.dense\.weight holds NaN or infinite values"
    ):
        write_merged(plan_of(folders), tmp_path / "out" / "merged", "")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_output_is_refused_and_left_alone(make_zoo, tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine").write_text("precious")
    with pytest.raises(
        OutputError, match="merged exists already; remove it or choose another output"
    ):
        write_merged(plan_of(make_zoo(count=2)), tmp_path / "merged", "")
    assert files(tmp_path / "merged") == {"mine": b"precious"}


def test_no_room_is_said_before_the_first_tensor(make_zoo, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"needs 0 MB but .* has 0 MB free; make room first"):
        write_merged(plan_of(make_zoo(count=2)), tmp_path / "merged", "")
    assert not (tmp_path / "merged").exists()


def test_an_unknown_task_names_those_that_are_there(make_zoo, tmp_path):
    write_merged(plan_of(make_zoo(count=2)), tmp_path / "merged", "")
    with pytest.raises(
        CheckpointError, match=re.escape("no task 't7' in ") + ".*there are: t0, t1"
    ):
        load_merged(tmp_path / "merged", "t7")


def big_zoo(tmp_path, megabytes=60):
    """Two models with one large embedding, in sparse files: quick to make, slow enough to merge."""
    folders = []
    rows = megabytes * 2**20 // (16 * 4)
    for number in range(2):
        model = tiny("bert", seed=number, num_labels=number + 2, dtype=torch.float32)
        folder = tmp_path / "zoo" / f"t{number}"
        model.save_pretrained(folder)
        tensors = {name: array.copy() for name, array in open_checkpoint(folder).tensors.items()}
        tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((rows, 16), np.float32)
        (folder / "model.safetensors").unlink()
        checkpoint.write(folder / "model.safetensors", tensors)
        folders.append(folder)
    return folders


def merge_until_killed(folders, out, says):
    """Merge; say when it begins."""
    plan = plan_of(folders)
    says.send_bytes(b"")
    write_merged(plan, out, "")


@pytest.mark.soak
def test_a_killed_merge_leaves_nothing_that_looks_finished(tmp_path):
    folders = big_zoo(tmp_path)
    killed = 0
    for attempt in range(8 * SOAK):
        out = tmp_path / f"out{attempt}" / "merged"
        hears, says = multiprocessing.Pipe(duplex=False)
        process = forking("tests.merging.test_output").Process(
            target=merge_until_killed, args=(folders, out, says)
        )
        process.start()
        says.close()
        with hears:
            hears.recv_bytes()
        process.join(0.02 * attempt / SOAK)
        process.kill()
        process.join()
        if out.exists():  # it was quicker than the signal: then it must be whole
            assert len(open_checkpoint(out / "t0").digest()) == 64
            assert (out / "recipe.yaml").is_file()
        else:
            killed += 1
            assert (
                all(left.name.startswith(".merged.partial-") for left in out.parent.glob("*"))
                or not out.parent.exists()
            )
    assert killed


MEMORY = """
import sys, threading
from pathlib import Path

peak = 0
def anonymous():
    text = Path("/proc/self/smaps_rollup").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024

from fmn.merging import write_merged
from tests.merging.test_output import plan_of
plan = plan_of([Path(a) for a in sys.argv[2:]])
before = anonymous()
def note(done):
    global peak
    peak = max(peak, anonymous() - before)
write_merged(plan, Path(sys.argv[1]), "", progress=note)
print(peak)
"""


def test_private_memory_does_not_grow_with_the_tensors(tmp_path):
    folders = big_zoo(tmp_path, megabytes=200)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "merged", *folders],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 100 * 2**20  # the largest tensor is 200 MB, and there are two of it
