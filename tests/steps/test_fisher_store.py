"""A Fisher of a store: taken, kept, and computed again where its file is damaged."""

import pytest

from fmn.checkpoint import read
from fmn.fisher import MaskFisher
from fmn.recipe import read_recipe
from fmn.steps.recipe import merge_recipe
from fmn.steps.step import NeedsError
from fmn.steps.zoo.run import run_steps
from fmn.store import verify
from tests.steps.conftest import flip, object_of, reference
from tests.steps.world import files

SST2 = reference("fisher", "sst2", "mask-fisher")


def object_file(lab, reference=SST2):
    record = lab.store.get("fisher", lab.open().step(reference).key)
    return object_of(lab.store, record.outputs["fisher"].md5)


def test_a_corrupt_fisher_is_repaired_when_a_merge_loads_it(ran):
    file = object_file(ran)
    whole = file.read_bytes()
    flip(file)
    assert file.read_bytes() != whole
    ran.say("merge", weights={"sst2": 2}, combinations=[["sst2", "rte"]])
    assert ran.computed() == {"merge": 2, "evaluate": 2}
    assert file.read_bytes() == whole
    (warning,) = ran.warnings
    assert "is corrupt; computing it again" in warning
    assert verify(ran.store) == []


@pytest.mark.parametrize(
    "damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"cut")]
)
def test_a_missing_or_cut_fisher_is_computed_by_the_next_run(damage, ran):
    file = object_file(ran)
    whole = file.read_bytes()
    file.chmod(0o644)
    damage(file)
    assert ran.computed() == {"fisher": 1}
    assert file.read_bytes() == whole
    (warning,) = ran.warnings
    assert "is missing or cut off; computing it again" in warning
    assert ran.computed() == {}


def test_a_damaged_record_is_written_again(ran):
    step = ran.open().step(SST2)
    (ran.folder / "store" / ran.store.get("fisher", step.key).path).write_text("{}")
    assert ran.computed() == {"fisher": 1}
    assert verify(ran.store) == []


def test_the_file_of_a_fisher_is_the_same_whether_it_was_computed_or_taken(ran):
    step, context = ran.open().step(SST2), ran.context()
    assert step.save(ran.folder / "computed", context, None) == (16, False)
    assert step.save(ran.folder / "taken", context, ran.store) == (16, True)
    computed, taken = (read(ran.folder / name) for name in ("computed", "taken"))
    assert computed[1] == taken[1]
    for name, tensor in MaskFisher.load(ran.folder / "computed").tensors():
        assert dict(MaskFisher.load(ran.folder / "taken").tensors())[name].equal(tensor)


def test_a_fisher_that_is_not_there_is_needed(lab):
    with pytest.raises(
        NeedsError, match="needs the mask Fisher of sst2, which is not in the store"
    ):
        lab.open().step(SST2).load(lab.store, lab.context())


def test_a_recipe_takes_its_fishers_from_the_store_and_keeps_new_ones(ran, monkeypatch):
    def merged(name, recipe="recipe.yaml", **settings):
        content = read_recipe(ran.world.recipe(ran.folder / recipe, **settings))
        merge_recipe(content, ran.folder / name, ran.context(), ran.store)
        return files(ran.folder / name)

    before = ran.store.keys("fisher")
    merged("other", fisher={"samples": 16, "seed": 9})
    assert len(ran.store.keys("fisher") - before) == 2
    monkeypatch.setattr(
        "fmn.fisher.mask_fisher", lambda *a, **k: pytest.fail("computed what is in the store")
    )
    taken = merged("taken")
    merged("again", fisher={"samples": 16, "seed": 9})
    monkeypatch.undo()
    content = read_recipe(ran.world.recipe(ran.folder / "recipe.yaml"))
    merge_recipe(content, ran.folder / "without", ran.context())
    assert files(ran.folder / "without") == taken


def test_a_failing_store_is_no_miss(ran, monkeypatch):
    from fmn.errors import StoreError

    (ran.folder / "store" / "records").rename(ran.folder / "records")
    (ran.folder / "store" / "records").write_text("no directory")
    with pytest.raises(StoreError, match="cannot read records"):
        run_steps([ran.open().step(SST2)], ran.store, ran.context())
