"""Merging: rules, importances, the plan with its checks, the streaming engine.

Nothing here needs torch for models on disk.
"""

from fmn.merging import (  # noqa: F401 - they register their rules
    angles,
    layerwise,
    means,
    regmean,
    regmean_free,
    singular_vectors,
    sparse,
    task_vectors,
)
from fmn.merging.engine import merge_into
from fmn.merging.memory import Merged, merge, merged_backbone
from fmn.merging.output import fill_merged, load_merged, write_merged
from fmn.merging.plan import Plan, make_plan
from fmn.merging.rules import (
    Parameter,
    Part,
    Rule,
    by_importance,
    by_weight,
    check_parameters,
    get_rule,
    misuse,
    register_rule,
    rule_names,
    weighted_mean,
)
from fmn.merging.source import Source
from fmn.merging.variants import Variant, variants

__all__ = [
    "Merged",
    "Parameter",
    "Part",
    "Plan",
    "Rule",
    "Source",
    "Variant",
    "by_importance",
    "by_weight",
    "check_parameters",
    "fill_merged",
    "get_rule",
    "load_merged",
    "make_plan",
    "merge",
    "merge_into",
    "merged_backbone",
    "misuse",
    "register_rule",
    "rule_names",
    "variants",
    "weighted_mean",
    "write_merged",
]
