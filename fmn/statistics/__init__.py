"""Statistics of models: what is computed of each once, kept, and used in every merge.

To add one: subclass :class:`Statistic` and call :func:`register_statistic`, or name an instance in
an entry point of the group ``fmn.statistics``. Nothing here imports torch.
"""

from fmn.errors import ParamsError
from fmn.registry import Registry, one_or_several
from fmn.statistics.diagonal_fisher import DiagonalFisherStatistic
from fmn.statistics.gram import Gram, GramStatistic
from fmn.statistics.head_states import HEAD_STATES, HeadStatesStatistic
from fmn.statistics.mask_fisher import MaskFisherStatistic, governing, scale_of
from fmn.statistics.second_moments import SecondMomentsStatistic
from fmn.statistics.statistic import (
    Array,
    At,
    Backbone,
    Measurement,
    PerParameter,
    Statistic,
)
from fmn.statistics.weights import ONE, is_sound, normalized

_STATISTICS: Registry[Statistic] = Registry(
    "statistic",
    "fmn.statistics",
    one_or_several(Statistic, lambda statistic: statistic.name),  # type: ignore[type-abstract]
    "add one with fmn.statistics.register_statistic(...) or an entry point in the group "
    "'fmn.statistics'",
)


def register_statistic(statistic: Statistic) -> None:
    """Add a statistic under its name.

    Raises:
        ParamsError: the name is bad, or taken.
    """
    _STATISTICS.register(statistic.name, statistic)


def get_statistic(name: str) -> Statistic:
    """Return a statistic by its name (``mask-fisher``) or by its option (``mask``).

    Raises:
        ParamsError: no such statistic; the message names the nearest and all known ones.
    """
    by_option = {statistic.option: statistic for statistic in statistics()}
    return by_option.get(name) or _STATISTICS.get(name)


def statistic_names() -> tuple[str, ...]:
    """Return the names of all statistics, in alphabetical order."""
    return _STATISTICS.names()


def statistics() -> tuple[Statistic, ...]:
    """Return all statistics, in the alphabetical order of their names.

    Raises:
        ParamsError: two have the same option, or one the name of another.
    """
    registered = tuple(_STATISTICS.get(name) for name in statistic_names())
    options = [statistic.option for statistic in registered]
    if twice := sorted({option for option in options if options.count(option) > 1}):
        raise ParamsError(f"two statistics have the option '{twice[0]}'; rename one")
    for statistic in registered:
        if statistic.option != statistic.name and statistic.option in statistic_names():
            raise ParamsError(
                f"the option '{statistic.option}' of the statistic {statistic.name} is another "
                "statistic's name; rename it"
            )
    return registered


def title_of(name: str) -> str:
    """Return what people call a statistic; its name where no package here brings it."""
    return _STATISTICS.get(name).title if name in statistic_names() else name


for _statistic in (
    MaskFisherStatistic(),
    DiagonalFisherStatistic(),
    GramStatistic(),
    HeadStatesStatistic(),
    SecondMomentsStatistic(),
):
    register_statistic(_statistic)

__all__ = [
    "HEAD_STATES",
    "ONE",
    "Array",
    "At",
    "Backbone",
    "Gram",
    "Measurement",
    "PerParameter",
    "Statistic",
    "get_statistic",
    "governing",
    "is_sound",
    "normalized",
    "register_statistic",
    "scale_of",
    "statistic_names",
    "statistics",
    "title_of",
]
