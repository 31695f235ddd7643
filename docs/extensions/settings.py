"""Tables of what people write and what is stored, made from the program when the site is built.

``{settings} MODEL`` lists the keys of a pydantic model, and of the models within it;
``{records} STEP`` lists the kinds of records, one for each step below a base class;
``{statistics}`` and ``{methods}`` list what the registries have.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin

import griffe
import yaml
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fmn.merging import get_rule, rule_names
from fmn.statistics import statistics

NAMES = {
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "integer",
    "number": "number",
}
PLURALS = {"text": "texts", "mapping": "mappings", "integer": "integers", "number": "numbers"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def thing(name: str) -> Any:
    """Import what a dotted name says."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives; Sphinx calls this."""
    app.add_directive("settings", SettingsDirective)
    app.add_directive("records", RecordsDirective)
    app.add_directive("statistics", StatisticsDirective)
    app.add_directive("methods", MethodsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class SettingsDirective(SphinxDirective):
    """The keys of a model, with type, default and meaning."""

    required_arguments = 1
    option_spec: ClassVar = {"known": str}
    """``known`` names models that another table of the page has."""

    def run(self) -> list[nodes.Node]:
        """Return the tables, those of models within the model in sections of their own."""
        known = {thing(name) for name in self.options.get("known", "").split()}
        (_, lines), *sections = settings_tables(thing(self.arguments[0]), known)
        return self._parse(lines) + [self._section(*section) for section in sections]

    def _section(self, title: str, lines: list[str]) -> nodes.section:
        names = [nodes.fully_normalize_name(title)]
        section = nodes.section("", nodes.title(title, title), *self._parse(lines), names=names)
        self.state.document.note_implicit_target(section, section)
        return section

    def _parse(self, lines: list[str]) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(lines))


class RecordsDirective(SphinxDirective):
    """The kinds of records."""

    required_arguments = 1
    option_spec: ClassVar = {"without": thing}
    """``without`` names a class whose steps only read what another has written."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        base, readers = thing(self.arguments[0]), self.options.get("without", ())
        package = import_module(base.__module__.rpartition(".")[0])
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
        rows = sorted(
            (f"`{step.kind}`", first(step), first(step.inputs))
            for step in below(base)
            if not inspect.isabstract(step) and not issubclass(step, readers)
        )
        lines = table(("kind", "of", "its key depends on"), list(dict.fromkeys(rows)))
        return self.parse_text_to_nodes("\n".join(lines))


class StatisticsDirective(SphinxDirective):
    """The statistics."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [
            (f"`{each.name}`", f"`{each.option}`", cited(each.paper), first(type(each)))
            for each in statistics()
        ]
        lines = table(("kind in the file", "`--kind`", "from", "holds"), rows)
        return self.parse_text_to_nodes("\n".join(lines))


class MethodsDirective(SphinxDirective):
    """The merge methods, and their parameters."""

    def run(self) -> list[nodes.Node]:
        """Return a table of each."""
        rules = [get_rule(name) for name in rule_names()]
        methods = [(f"`{rule.name}`", rule.reference, f"{rule.summary}.") for rule in rules]
        parameters = [
            (f"`{rule.name}`", f"`{each.name}`", each.expected, written(each.default), each.help)
            for rule in rules
            for each in rule.parameters
        ]
        lines = [
            *table(("method", "from", "merges by"), methods),
            *table(("method", "parameter", "is", "default", "meaning"), parameters),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def cited(paper: str) -> str:
    """Return a paper as a link."""
    authors, _, address = paper.rpartition(", ")
    return f"[{authors}]({address})"


def settings_tables(
    model: type[BaseModel], known: set[type], path: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Iterate over titles and tables: of a model, and of models within it that are not known."""
    known.add(model)
    text, attributes = docstring(model)
    schema = model.model_json_schema()
    inner = {
        name: list(models_within(field.annotation)) for name, field in model.model_fields.items()
    }
    rows = []
    for name, key in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else default_of(key)
        meaning = key.get("description") or attributes.get(name, "")
        if any(each in known for each in inner[name]):
            meaning += " Its keys are as above."
        rows.append((f"`{path}{name}`", type_of(key), default, meaning))
    yield path.removesuffix("."), [text, *table(("key", "type", "default", "meaning"), rows)]
    for name, field in model.model_fields.items():
        for each in inner[name]:
            if each not in known:
                brackets = "" if each in alternatives(field.annotation) else "[]"
                yield from settings_tables(each, known, f"{path}{name}{brackets}.")


def models_within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Iterate over the models in an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_within(argument)


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    is_union = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if is_union else (annotation,)


def type_of(key: dict[str, Any]) -> str:
    """Say in words what a JSON schema admits."""
    if "$ref" in key:
        return "mapping"
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(map(type_of, key["anyOf"])))
    if "enum" in key or "const" in key:
        return " or ".join(f"`{choice}`" for choice in key.get("enum", [key.get("const")]))
    if key.get("type") == "array":
        return f"list of {plural(type_of(key['items']))}" if "items" in key else "list"
    if key.get("type") == "object":
        values = key.get("additionalProperties", True)
        return f"mapping to {plural(type_of(values))}" if isinstance(values, dict) else "mapping"
    limits = [f"{sign} {key[name]:g}" for name, sign in LIMITS.items() if name in key]
    return " ".join([NAMES.get(key.get("type", ""), "text"), *limits])


def plural(words: str) -> str:
    """Put the first word of a type into the plural."""
    word, _, rest = words.partition(" ")
    return f"{PLURALS.get(word, word)} {rest}".strip()


def default_of(key: dict[str, Any]) -> str:
    """Write a default as YAML does; nothing for an empty one, and for that of a model."""
    value = key.get("default", "")
    if value == "" or isinstance(value, dict):
        return ""
    return written(value)


def written(value: Any) -> str:
    """Write a value as YAML does, in one line and as code."""
    text = yaml.safe_dump(without_nothing(value), default_flow_style=True, width=1000)
    return f"`{text.splitlines()[0]}`"


def without_nothing(value: Any) -> Any:
    """Leave out what mappings in a list hold of empty mappings."""
    if isinstance(value, list | tuple):
        return [without_nothing(item) for item in value]
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item != {}}
    return value


def docstring(model: type) -> tuple[str, dict[str, str]]:
    """Return what a class is, and what its attributes are."""
    text, attributes = "", dict[str, str]()
    for section in griffe.Docstring(inspect.getdoc(model) or "").parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            text += section.value
        elif section.kind is griffe.DocstringSectionKind.attributes:
            attributes |= {item.name: item.description for item in section.value}
    return text, attributes


def first(described: Any) -> str:
    """Return the first paragraph of a docstring."""
    return (inspect.getdoc(described) or "").partition("\n\n")[0]


def below(base: type) -> Iterator[Any]:
    """Iterate over all subclasses."""
    for kind in base.__subclasses__():
        yield kind
        yield from below(kind)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Draw a table in Markdown."""
    yield "\n| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        yield "| " + " | ".join(cells) + " |"
    yield ""
