"""fmn merges fine-tuned transformers of one parent into one multi-task model, without training.

The method is that of Fisher Mask Nodes for Language Model Merging (Thennal D K et al., LREC-COLING
2024). What is exported here is imported when it is first used, so that ``import fmn`` costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmn.catalog import Catalog as Catalog
    from fmn.catalog import Query as Query
    from fmn.checkpoint import open_checkpoint as open_checkpoint
    from fmn.errors import FmnError as FmnError
    from fmn.evaluation import Task as Task
    from fmn.evaluation import register_task as register_task
    from fmn.fisher import DiagonalFisher as DiagonalFisher
    from fmn.fisher import Estimate as Estimate
    from fmn.fisher import GramMatrices as GramMatrices
    from fmn.fisher import MaskFisher as MaskFisher
    from fmn.fisher import diagonal_fisher as diagonal_fisher
    from fmn.fisher import gram_matrices as gram_matrices
    from fmn.fisher import mask_fisher as mask_fisher
    from fmn.merging import Merged as Merged
    from fmn.merging import Parameter as Parameter
    from fmn.merging import Part as Part
    from fmn.merging import Rule as Rule
    from fmn.merging import load_merged as load_merged
    from fmn.merging import merge as merge
    from fmn.merging import register_rule as register_rule
    from fmn.statistics import Statistic as Statistic
    from fmn.statistics import register_statistic as register_statistic
    from fmn.steps.rederive import get_merge as get_merge

    __version__: str

DISTRIBUTION = "fisher-mask-nodes"
"""What is installed; on the package registry, `fmn` is another project's."""

_HOME = {
    "Catalog": "catalog",
    "Query": "catalog",
    "get_merge": "steps.rederive",
    "open_checkpoint": "checkpoint",
    "FmnError": "errors",
    "Task": "evaluation",
    "register_task": "evaluation",
    "DiagonalFisher": "fisher",
    "Estimate": "fisher",
    "GramMatrices": "fisher",
    "MaskFisher": "fisher",
    "diagonal_fisher": "fisher",
    "gram_matrices": "fisher",
    "mask_fisher": "fisher",
    "Merged": "merging",
    "Parameter": "merging",
    "Part": "merging",
    "Rule": "merging",
    "load_merged": "merging",
    "merge": "merging",
    "register_rule": "merging",
    "Statistic": "statistics",
    "register_statistic": "statistics",
}


def __getattr__(name: str) -> Any:
    """Import an exported name from where it lives."""
    if name == "__version__":
        return globals().setdefault(name, _version())
    if name not in _HOME:
        raise AttributeError(f"module 'fmn' has no attribute {name!r}")
    return getattr(import_module(f"fmn.{_HOME[name]}"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # nobody installed it: a checkout that is on the path
        return "0+unknown"


def __dir__() -> list[str]:
    """Return the exported names."""
    return sorted([*_HOME, "__version__"])
