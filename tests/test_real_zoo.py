"""A pair of the real zoo against an independent implementation; all of them: ``python
benchmarks/real_zoo.py``."""

import importlib.util
import json
from pathlib import Path

import pytest

from fmn.params import Params
from fmn.schema import parse
from fmn.steps.context import Context
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store

SCRIPT = importlib.util.spec_from_file_location(
    "real_zoo", Path(__file__).parents[1] / "benchmarks" / "real_zoo.py"
)
real_zoo = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(real_zoo)


@pytest.mark.slow
def test_a_pair_scores_as_the_reference_has_it(shared, zoo, tmp_path):
    described = real_zoo.params(zoo, shared / "glue")
    described["models"] = [
        model for model in described["models"] if model["task"] in ("rte", "mrpc")
    ]
    described["merge"]["methods"] = ["average", "mask-fisher"]
    context, store = Context(), open_store(tmp_path / "store")
    pair = Graph(open_zoo(parse(Params, described, "the pair"), context.memo))
    run_zoo(pair, store, context)
    report = zoo_report(pair, store)
    golden = json.loads((shared / "golden" / "pairs.json").read_text())
    reference = {
        row["method"]: row["scores"]
        for row in golden["pairs"]
        if set(row["tasks"]) == {"rte", "mrpc"}
    }
    for row in report.rows:
        for task, score in row.scores.items():
            assert 100 * score == pytest.approx(reference[row.method][task], abs=real_zoo.TOLERANCE)
    for task, score in report.individual.items():
        assert 100 * score == pytest.approx(golden["individual"][task], abs=0.01)
