"""Files as they are on the hub: output matrices of one's own, copies, old parts, several dtypes,
quantised weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

import fmn
from fmn import checkpoint
from fmn.checkpoint import open_checkpoint
from fmn.errors import FmnError, MergeError
from fmn.merging import load_merged, write_merged
from fmn.models import load_model
from tests.families import examples, tiny
from tests.merging.test_output import inputs, plan_of


def rewrite(folder, change):
    """Change the tensors of a file."""
    tensors = {name: array.copy() for name, array in open_checkpoint(folder).tensors.items()}
    change(tensors)
    (folder / "model.safetensors").unlink()
    checkpoint.write(folder / "model.safetensors", tensors)


def configure(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def merged(folders, path, **options):
    write_merged(plan_of(folders, **options), path, "")
    return [load_merged(path, folder.name) for folder in folders]


@pytest.mark.skipif(
    transformers.__version__.startswith("4."),
    reason="transformers 4 ties whatever the configuration ties",
)
@pytest.mark.parametrize(
    ("name", "embeddings"), [("llama", "model.embed_tokens.weight"), ("t5", "shared.weight")]
)
def test_an_output_matrix_of_its_own_stays_with_its_task(name, embeddings, make_zoo, tmp_path):
    """Transformers 5 says of every T5 that it ties its embeddings, and writes both matrices where
    they differ."""
    folders = make_zoo(name, 2)
    for number, folder in enumerate(folders):
        configure(folder, tie_word_embeddings=True)
        rewrite(
            folder,
            lambda tensors, n=number: tensors.update(
                {"lm_head.weight": tensors[embeddings] + n + 1}
            ),
        )
    for folder, model in zip(folders, merged(folders, tmp_path / "merged"), strict=True):
        own = open_checkpoint(folder).tensors["lm_head.weight"]
        assert np.array_equal(model.lm_head.weight.detach().numpy(), own)
        assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


@pytest.mark.skipif(
    transformers.__version__.startswith("4."),
    reason="transformers 4 ties whatever the configuration ties",
)
def test_one_matrix_of_its_own_beside_none(make_zoo):
    folders = make_zoo("llama", 2)
    for folder in folders:
        configure(folder, tie_word_embeddings=True)
        rewrite(
            folder,
            lambda tensors: tensors.update(
                {"lm_head.weight": tensors["model.embed_tokens.weight"]}
            ),
        )
    rewrite(
        folders[1],
        lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"] + 1}),
    )
    with pytest.raises(MergeError, match=r"the output matrix of .* is its word embeddings"):
        plan_of(folders)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("bart", "model.decoder.embed_tokens.weight"), ("t5", "decoder.embed_tokens.weight")],
)
def test_a_file_that_holds_only_a_copy_of_the_embeddings(name, kept, make_zoo, tmp_path):
    folders = make_zoo(name, 2)
    means = torch.stack(
        [load_model(folder).get_input_embeddings().weight for folder in folders]
    ).mean(0)
    for folder in folders:

        def change(tensors):
            (shared,) = [key for key in tensors if key.endswith("shared.weight")]
            matrix = tensors.pop(shared)
            for key in [
                key
                for key in tensors
                if key.endswith("embed_tokens.weight") or key == "lm_head.weight"
            ]:
                del tensors[key]
            tensors[kept] = matrix

        rewrite(folder, change)
        load_model(folder)  # transformers takes it
    for model in merged(folders, tmp_path / "merged"):
        torch.testing.assert_close(model.get_input_embeddings().weight, means)


@pytest.mark.parametrize(
    ("name", "head"), [("roberta", "SequenceClassification"), ("bert", "TokenClassification")]
)
@pytest.mark.parametrize("method", ["average", "fisher"])
def test_a_pooler_that_the_class_has_no_more(name, head, method, make_zoo, tmp_path):
    folders = make_zoo(name, 2, head=head)
    for number, folder in enumerate(folders):
        old = {"weight": np.full((16, 16), number, "f4"), "bias": np.full(16, number, "f4")}
        rewrite(
            folder,
            lambda tensors, old=old: tensors.update(
                {f"{name}.pooler.dense.{k}": v for k, v in old.items()}
            ),
        )
    models = {folder.name: load_model(folder) for folder in folders}
    fishers = None
    if method == "fisher":
        fishers = {
            task: fmn.diagonal_fisher(model, [inputs(model, labelled=True)])
            for task, model in models.items()
        }
    in_memory = fmn.merge(
        {folder.name: folder for folder in folders}, method=method, fishers=fishers
    )
    for task, model in models.items():
        assert torch.isfinite(in_memory[task](**inputs(model)).logits).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_in_memory_and_from_disk_compute_in_the_same_dtypes(name, dtype, make_zoo, tmp_path):
    """Rotary frequencies stay float32, and so does what transformers keeps so in float16."""
    folders = make_zoo(name, 2, dtype=dtype)
    in_memory = fmn.merge({folder.name: folder for folder in folders}, method="average")
    for folder, model in zip(folders, merged(folders, tmp_path / "merged"), strict=True):
        ours = in_memory[folder.name]
        for (key, one), other in zip(
            model.state_dict().items(), ours.state_dict().values(), strict=True
        ):
            assert one.dtype == other.dtype, key
        for (key, one), other in zip(model.named_buffers(), ours.buffers(), strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other), key
        assert torch.equal(model(**inputs(model)).logits, ours(**inputs(model)).logits)


def test_norms_in_float32_do_not_make_a_bfloat16_model_wide(make_zoo, tmp_path):
    folders = make_zoo("llama", 2, dtype=torch.bfloat16)
    for folder in folders:
        rewrite(
            folder,
            lambda tensors: tensors.update(
                {k: v.astype("f4") for k, v in tensors.items() if "norm" in k}
            ),
        )
    (model, _) = merged(folders, tmp_path / "merged")
    alone = load_model(folders[0])
    assert [parameter.dtype for parameter in model.parameters()] == [
        parameter.dtype for parameter in alone.parameters()
    ]
    assert model.config.to_dict().get("dtype", model.config.to_dict().get("torch_dtype")) in (
        "bfloat16",
        torch.bfloat16,
    )


def test_of_two_half_precisions_neither_holds_the_other(make_zoo):
    folders = [
        *make_zoo("bert", 1, dtype=torch.float16),
        *make_zoo("bert", 1, first=1, dtype=torch.bfloat16),
    ]
    assert {spec.dtype.name for spec in plan_of(folders).specs.values()} == {"float32"}


def test_a_value_that_the_dtype_cannot_hold(make_zoo, tmp_path):
    folders = make_zoo("bert", 2)
    for folder in folders:
        rewrite(
            folder,
            lambda tensors: tensors["bert.encoder.layer.0.output.dense.bias"].__setitem__(3, 1e5),
        )
    with pytest.raises(
        FmnError,
        match=r"encoder\.layer\.0\.output\.dense\.bias holds values that float16 cannot; choose",
    ):
        merged(folders, tmp_path / "merged", dtype="float16")
    assert not (tmp_path / "merged").exists()


def test_quantised_weights_are_refused(make_zoo):
    import ml_dtypes

    folders = make_zoo("llama", 2)
    for folder in folders:
        rewrite(
            folder,
            lambda tensors: tensors.update(
                {k: v.astype(ml_dtypes.float8_e4m3fn) for k, v in tensors.items()}
            ),
        )
    with pytest.raises(
        MergeError,
        match=(
            "holds float8_e4m3fn, which cannot be averaged; expected floating point, not quantised"
        ),
    ):
        plan_of(folders)


def test_versions_in_old_files_of_bart(make_zoo, tmp_path):
    folders = make_zoo("bart", 2)
    rewrite(folders[0], lambda tensors: tensors.update({"model.encoder.version": np.ones(1, "f4")}))
    assert len(merged(folders, tmp_path / "merged")) == 2


def test_what_only_the_parent_has_is_nobodys_concern():
    models = {f"t{n}": tiny("bert", "TokenClassification", seed=n) for n in (1, 2)}
    assert fmn.merge(
        models, method="task-arithmetic", parent=tiny("bert", "SequenceClassification")
    )["t1"]  # has a pooler
    with pytest.raises(MergeError, match=r"^parent parent: a roberta model"):
        fmn.merge(models, method="task-arithmetic", parent=tiny("roberta"))


def test_a_model_of_weight_0_needs_no_fisher():
    models = {f"t{n}": tiny("bert", seed=n) for n in range(3)}
    fishers = {
        task: fmn.mask_fisher(model, examples(model))
        for task, model in models.items()
        if task != "t2"
    }
    with_it = fmn.merge(models, fishers=fishers, weights={"t2": 0})
    without = fmn.merge({task: models[task] for task in fishers}, fishers=fishers)
    assert with_it.backbone.keys() == without.backbone.keys()
    assert all(
        np.array_equal(array, without.backbone[name]) for name, array in with_it.backbone.items()
    )


def test_a_pooler_whose_fisher_only_one_model_has_is_averaged():
    models = {f"t{n}": tiny("bert", seed=n) for n in (1, 2)}
    fishers = {task: fmn.diagonal_fisher(model, examples(model)) for task, model in models.items()}
    for name in [name for name in fishers["t1"].parameters if name.startswith("pooler.")]:
        del fishers["t1"].parameters[name]
    merged = fmn.merge(models, method="fisher", fishers=fishers, heads="merged")
    pooler = merged.backbone["bert.pooler.dense.weight"]
    mean = torch.stack([model.bert.pooler.dense.weight for model in models.values()]).mean(0)
    np.testing.assert_allclose(pooler, mean.detach().numpy())
