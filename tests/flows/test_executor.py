"""What waits for what in the tasks of a run."""

from fmn.flows.executor import batches
from fmn.merging import get_rule, rule_names
from fmn.steps.zoo.plan import plan_zoo
from tests.steps.conftest import make_lab


def batched(lab):
    graph = lab.open()
    plan = plan_zoo(graph, lab.store)
    return graph, list(batches(graph, plan, plan.hits))


def test_merges_wait_for_whatever_is_computed_of_their_models(world, tmp_path):
    lab = make_lab(tmp_path, world, parent=str(world.model("sst2")))
    methods = [name for name in rule_names() if get_rule(name).models is None]
    lab.say("merge", methods=methods, sizes=[2])
    graph, tasks = batched(lab)
    merges = {each for task in tasks for each in task if each.kind == "merge"}
    assert {merge.variant for merge in merges} == set(methods)
    for merge in merges:
        names = get_rule(merge.variant).statistics
        needed = {("fisher", (model,), name) for model in merge.models for name in names}
        assert set(graph.needs(merge)) == needed


def test_every_step_comes_once_and_after_what_it_needs(world, tmp_path):
    lab = make_lab(tmp_path, world)
    lab.say("merge", methods=["average", "mask-fisher"])
    graph, tasks = batched(lab)
    done = set()
    for task in tasks:
        for step in task:
            assert step not in done
            assert done >= set(graph.needs(step)), step
        done |= set(task)
    assert done == {each for kind in graph.kinds for each in graph.of(kind)}


def test_merges_of_one_variant_share_tasks_as_the_params_say(world, tmp_path):
    lab = make_lab(tmp_path, world, runner={"batch": 3})
    lab.say("merge", methods=["average", {"method": "mask-fisher", "parameters": {}}])
    _, tasks = batched(lab)
    merges = [task for task in tasks if task[0].kind == "merge"]
    assert [len(task) for task in merges] == [3, 1, 3, 1]
    assert all(len({step.variant for step in task}) == 1 for task in merges)
