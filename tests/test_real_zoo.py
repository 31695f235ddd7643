"""A pair of the real zoo against an independent implementation; all of them: ``python benchmarks/real_zoo.py``."""

import importlib.util
import json
from pathlib import Path

import pytest

from fmn.params import Params
from fmn.schema import parse
from fmn.steps.bench import Bench
from fmn.steps.zoo import run_zoo

SCRIPT = importlib.util.spec_from_file_location("real_zoo", Path(__file__).parents[1] / "benchmarks" / "real_zoo.py")
real_zoo = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(real_zoo)


def test_a_pair_scores_as_the_reference_has_it(shared, zoo):
    described = real_zoo.params(zoo, shared / "glue")
    described["models"] = [model for model in described["models"] if model["task"] in ("rte", "mrpc")]
    described["merge"]["methods"] = ["average", "mask-fisher"]
    report = run_zoo(parse(Params, described, "the pair"), Bench())
    golden = json.loads((shared / "golden" / "pairs.json").read_text())
    reference = {row["method"]: row["scores"] for row in golden["pairs"] if set(row["tasks"]) == {"rte", "mrpc"}}
    for row in report.rows:
        for task, score in row.scores.items():
            assert 100 * score == pytest.approx(reference[row.method][task], abs=real_zoo.TOLERANCE)
    for task, score in report.individual.items():
        assert 100 * score == pytest.approx(golden["individual"][task], abs=0.01)
