"""Options that derive from a settings' model: its fields say type, default and help, once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class SettingsCommand(click.Command):
    """A command with an option for every field of a settings' model, imported when asked for."""

    def __init__(
        self, *arguments: Any, settings: str, without: Collection[str] = (), **more: Any
    ) -> None:
        """Make the command.

        Args:
            arguments: of :class:`click.Command`.
            settings: ``module:class`` of the model.
            without: fields that are nothing to this command.
            more: of :class:`click.Command`.
        """
        super().__init__(*arguments, **more)
        self._settings: str | None = settings
        self._without = without

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; the settings' come after the command's own."""
        if self._settings is not None:
            module, _, name = self._settings.partition(":")
            kind = getattr(import_module(module), name)
            self.params += settings_options(kind, self._without)
            self._settings = None
        return super().get_params(ctx)


def settings_options(kind: Any, without: Collection[str] = ()) -> Iterator[click.Option]:
    """Iterate over options for the fields of a pydantic model, but some."""
    from fmn.schema import attributes

    help_of = attributes(kind)
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        yield _option(name, field, help_of.get(name, "").replace("``", ""))


def _option(name: str, field: FieldInfo, text: str) -> click.Option:
    flag = f"--{name.replace('_', '-')}"
    shown = f"{text[:1].upper()}{text[1:]}".rstrip(".") + "." if text else None
    if get_origin(field.annotation) is tuple:  # of choices, each said by itself
        (choices, _) = get_args(field.annotation)
        return click.Option(
            [flag],
            type=click.Choice(list(get_args(choices))),
            multiple=True,
            default=field.default,
            show_default=True,
            help=shown,
        )
    if field.annotation is bool:
        return click.Option([flag], is_flag=True, default=field.default, help=shown)
    has_default = field.default is not None
    return click.Option(
        [flag],
        type=_type(field),
        default=field.default,
        show_default=has_default,
        help=shown,
    )


def _type(field: FieldInfo) -> Any:
    """Return what click makes of a field's annotation; null is what is not said."""
    annotation, bounds = field.annotation, _bounds(field.metadata)
    if get_origin(annotation) is not Literal and NoneType in get_args(annotation):
        (annotation,) = (member for member in get_args(annotation) if member is not NoneType)
        if hasattr(annotation, "__metadata__"):  # Annotated within an optional
            bounds, annotation = _bounds(annotation.__metadata__), annotation.__origin__
    if get_origin(annotation) is Literal:
        return click.Choice(list(get_args(annotation)))
    if annotation is int:
        return click.IntRange(**bounds) if bounds else click.INT
    return click.FLOAT if annotation is float else click.STRING


def _bounds(metadata: Any) -> Mapping[str, Any]:
    for constraint in metadata:
        inner = getattr(constraint, "metadata", None)
        if inner:
            return _bounds(inner)
        if getattr(constraint, "ge", None) is not None:
            return {"min": constraint.ge}
    return {}
