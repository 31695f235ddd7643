"""Layer-wise merges: any rule's merge, whose layers are then fitted to what the models say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmn.errors import ParamsError
from fmn.merging.rules import (
    Needs,
    Parameter,
    Rule,
    by_weight,
    check_parameters,
    get_rule,
    register_rule,
)
from fmn.statistics import HEAD_STATES


class StartParameter(Parameter):
    """The method whose merge another begins with: a name, or ``method`` with ``parameters``."""

    @property
    def expected(self) -> str:
        """What is possible, in words."""
        return "the name of a method, or a mapping of its 'method' and 'parameters'"

    def checked(self, value: Any) -> Any:
        """Return the name, or a mapping where parameters have other values than their defaults.

        Raises:
            ParamsError: an unknown method, one that begins with another, or what cannot be said to
                it.
        """
        if value == self.default:  # which is registered later than this
            return value
        given: Any = {"method": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not {"method"} <= given.keys() <= FORM:
            raise ParamsError(
                f"parameters: {self.name}: {value!r} is impossible; expected {self.expected}"
            )
        rule, own = get_rule(given["method"]), given.get("parameters") or {}
        if rule.calibration:
            raise ParamsError(
                f"parameters: {self.name}: {rule.name} begins with another method itself; name that"
            )
        check_parameters([rule], own)
        usual = rule.settings({})
        said = {name: each for name, each in rule.settings(own).items() if each != usual[name]}
        return {"method": rule.name, "parameters": said} if said else rule.name


FORM = {"method", "parameters"}


class NumberOrAuto(Parameter):
    """A number, or ``auto``."""

    @property
    def expected(self) -> str:
        """What is possible, in words."""
        return f"auto, or {self._number.expected}"

    def checked(self, value: Any) -> Any:
        """Return ``auto``, or the number.

        Raises:
            ParamsError: an impossible one.
        """
        try:
            return value if value == "auto" else self._number.checked(value)
        except ParamsError as error:
            raise ParamsError(str(error).replace("expected ", "expected auto, or ")) from None

    @property
    def _number(self) -> Parameter:
        return Parameter(
            self.name, self.minimum, self.help, minimum=self.minimum, maximum=self.maximum
        )


def _start(settings: Mapping[str, Any]) -> Needs:
    start = settings["start"]
    method, own = (start, {}) if isinstance(start, str) else (start["method"], start["parameters"])
    return Needs(start=(get_rule(method), own))


register_rule(
    Rule(
        "layerwise",
        "another method's merge, whose layers are then fitted, one after another, to what each "
        "model says of a sample of its examples",
        "Nguyen et al. 2025, https://arxiv.org/abs/2508.03121",
        by_weight,
        (HEAD_STATES,),
        parameters=(
            StartParameter("start", "tsv-m", "the method that it begins with"),
            NumberOrAuto(
                "ridge",
                "auto",
                "how strongly a layer is held to its start, relative to what goes into it; chosen "
                "for each layer by halves of the examples",
                minimum=0.0,
            ),
        ),
        needs=_start,
        calibration="fmn.layerwise:calibrate",
    )
)
