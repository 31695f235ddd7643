"""What waits for what in the DAG of a run."""

from fmn.flows.executor import submit_all
from fmn.merging import get_rule, rule_names
from fmn.steps.zoo.plan import make_plan
from fmn.steps.zoo.zoo import open_zoo
from tests.steps.conftest import make_lab


class Recorder:
    """Takes tasks as a run does; a task's future is its first step."""

    def __init__(self):
        self.after = {}

    def add(self, name, references, is_hit, after):
        self.after.update(dict.fromkeys(references, after))
        return references[0]


def test_merges_wait_for_whatever_is_computed_of_their_models(world, tmp_path):
    lab = make_lab(tmp_path, world, parent=str(world.model("sst2")))
    methods = [name for name in rule_names() if get_rule(name).models is None]
    lab.say("merge", methods=methods, sizes=[2])
    zoo, dag = open_zoo(lab.params, lab.context().memo), Recorder()
    submit_all(dag, zoo, make_plan(zoo, lab.store))
    merges = [reference for reference in dag.after if reference[0] == "merge"]
    assert {method for *_, method in merges} == set(methods)
    for merge in merges:
        statistic = get_rule(merge[-1]).statistic
        needed = [("fisher", name, statistic) for name in merge[1:-1] if statistic]
        assert set(needed) <= set(dag.after[merge]), merge
        assert bool(dag.after[merge]) == bool(needed)
