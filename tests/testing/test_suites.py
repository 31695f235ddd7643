"""The suites of the package hold for its own parts, and fail for parts that break a promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from fmn.merging import Parameter, Rule, get_rule, rule_names
from fmn.statistics import get_statistic, statistic_names
from fmn.testing import FamilySuite, RuleSuite, StatisticSuite
from tests.families import tiny


@pytest.mark.parametrize("name", rule_names())
class TestRules(RuleSuite):
    @pytest.fixture(autouse=True)
    def _rule(self, name):
        self.rule = get_rule(name)


@pytest.mark.parametrize("name", statistic_names())
class TestStatistics(StatisticSuite):
    @pytest.fixture(autouse=True)
    def _statistic(self, name):
        self.statistic = get_statistic(name)


class TestFamily(FamilySuite):
    def model(self):
        return tiny("bert", num_labels=3)

    def example(self, number):
        return {"input_ids": torch.arange(5)[None] + number, "labels": torch.tensor([number % 3])}


class TestConv1D(TestFamily):
    def model(self):
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=50, n_embd=16, n_head=4, n_layer=2, n_positions=20)
        config.num_labels, config.pad_token_id = 3, 0
        return GPT2ForSequenceClassification(config).eval()


def rule(combine, **more):
    return Rule("x", "a summary", "", combine, **more)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (rule(lambda part: part.tensors[0] * np.nan), "test_the_result_is_a_parameter"),
        (rule(lambda part: part.tensors[0][:2]), "test_the_result_is_a_parameter"),
        (
            rule(lambda part: part.tensors[0] + np.random.random()),
            "test_the_same_part_gives_the_same_bytes",
        ),
        (
            rule(lambda part: np.add(part.tensors[0], 1, out=part.tensors[0])),
            "test_what_it_is_given_stays_as_it_is",
        ),
        (
            rule(lambda part: np.add(part.parent, 1, out=part.parent), parent=True),
            "test_what_it_is_given_stays_as_it_is",
        ),
        (
            rule(lambda part: part.tensors[0] - part.tensors[0].mean()),
            "test_pieces_of_a_parameter_give_the_pieces_of_the_whole",
        ),
        (
            rule(lambda part: part.tensors[0], parameters=(Parameter("a", 1.0, ""),)),
            "test_its_parameters_can_be_written_into_recipes_and_keys",
        ),
        (
            replace(rule(lambda part: part.tensors[0]), summary=""),
            "test_it_says_what_it_does",
        ),
    ],
)
def test_a_rule_that_breaks_a_promise_is_caught(broken, test):
    suite = RuleSuite()
    suite.rule = broken
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, test)()
