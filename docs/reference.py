"""The reference, made from the program when the site is built.

Nothing of it is in the repository.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any

import click
from docstrings import SECTION, docstring, documented, first, marked, methods, signature, table
from mkdocs.structure.files import File, Files
from pydantic import BaseModel


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; mkdocs calls this."""
    for path, text in pages().items():
        files.append(File.generated(config, f"reference/{path}", content=text))
    return files


def pages() -> dict[str, str]:
    """Return every page of the reference by its file's name."""
    made = {
        "commands.md": _commands,
        "settings.md": _settings,
        "python.md": _python,
        "formats.md": _formats,
    }
    return {name: "\n".join(make()) + "\n" for name, make in made.items()}


def _commands() -> Iterator[str]:
    from fmn.__main__ import main

    yield "# Commands"
    yield (
        "What `--help` says of each. What a person can mend comes out as one line and exit code 1."
    )
    for path, command in commands(main, "fmn"):
        yield f"\n## {path}\n"
        yield from _command(path, command)


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Iterate over a command and all that are below it, by what is typed."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            if not below.hidden:
                yield from commands(below, f"{path} {name}")


def _command(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path, **command.context_settings)
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [
        option
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    records = [record for option in options if (record := option.get_help_record(context))]
    yield from table(("option", "meaning"), [(f"`{name}`", text) for name, text in records])


def _settings() -> Iterator[str]:
    from fmn.evaluation import Task
    from fmn.params import Params
    from fmn.recipe import Recipe

    yield "# Settings"
    yield (
        "What people write, in YAML. Unknown keys are refused, and the nearest known one is named."
    )
    done: set[type] = set()
    for title, kind in (("params.yaml", Params), ("A recipe", Recipe), ("A task's file", Task)):
        yield f"\n## {title}\n"
        yield from model_tables(kind, done)


def model_tables(kind: type[BaseModel], done: set[type], path: str = "") -> Iterator[str]:
    """Describe a model, and every model within it that is not among those done already."""
    done.add(kind)
    text, attributes = docstring(kind)
    yield f"{text}\n"
    schema = kind.model_json_schema()
    rows = []
    for name, said in schema["properties"].items():
        needed = name in schema.get("required", ())
        rows.append(
            (
                f"`{path}{name}`",
                _type(said),
                "required" if needed else _default(said),
                attributes.get(name, ""),
            )
        )
    yield from table(("key", "type", "default", "meaning"), rows)
    for name, field in kind.model_fields.items():
        for inner in _models(field.annotation):
            at = f"{path}{name}{'[]' if inner is not field.annotation else ''}."
            if inner in done:
                yield f"`{name}` is as in params.yaml.\n"
            else:
                yield f"\n### {at.removesuffix('.')}\n"
                yield from model_tables(inner, done, at)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def _type(said: dict[str, Any]) -> str:
    if "$ref" in said:
        return "mapping"
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(map(_type, said["anyOf"])))
    if "enum" in said or "const" in said:
        return " or ".join(f"`{choice}`" for choice in said.get("enum", [said.get("const")]))
    if said.get("type") == "array":
        return f"list of {_plural(_type(said['items']))}" if "items" in said else "list"
    if said.get("type") == "object":
        inner = said.get("additionalProperties", True)
        return f"mapping to {_plural(_type(inner))}" if isinstance(inner, dict) else "mapping"
    limits = [
        f"{sign} {said[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"))
        if key in said
    ]
    names = {
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "integer": "integer",
        "number": "number",
    }
    return " ".join([names.get(said.get("type", ""), "text"), *limits])


def _plural(kind: str) -> str:
    words = {"text": "texts", "mapping": "mappings", "integer": "integers", "number": "numbers"}
    first, _, rest = kind.partition(" ")
    return f"{words[first]} {rest}".strip() if first in words else kind


def _default(said: dict[str, Any]) -> str:
    if "default" not in said or isinstance(said["default"], dict):
        return ""
    value = said["default"]
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    if isinstance(shown, list | tuple):
        shown = f"[{', '.join(map(str, shown))}]"
    return f"`{shown}`" if shown != "" else ""


def _python() -> Iterator[str]:
    import fmn
    from fmn import architectures, evaluation

    yield "# Python"
    yield "What `import fmn` offers; each name is imported from its home when it is first used."
    for name in dir(fmn):
        if not name.startswith("__"):
            yield from _described(f"fmn.{name}", getattr(fmn, name))
    yield from _described("fmn.evaluation.register_metric", evaluation.register_metric)
    for name in ("register", "Architecture", "Attention", "FeedForward", "Slices", "linear"):
        yield from _described(f"fmn.architectures.{name}", getattr(architectures, name))


def _described(name: str, thing: Any) -> Iterator[str]:
    yield f"\n## {name}\n"
    if not inspect.isclass(thing):
        yield f"```text\n{name.rpartition('.')[2]}{signature(thing)}\n```\n"
    yield from documented(thing)
    if inspect.isclass(thing) and not issubclass(thing, BaseModel):
        for method, function in methods(thing):
            yield f"\n### {name}.{method}\n\n```text\n{method}{signature(function)}\n```\n"
            yield from documented(function)


def _formats() -> Iterator[str]:
    from fmn.catalog.tags import TAGS, Tag
    from fmn.checkpoint import FISHERS
    from fmn.fisher import DiagonalFisher, GramMatrices, MaskFisher
    from fmn.merging import write_merged
    from fmn.steps.sidecar import RecordedFisher
    from fmn.steps.step import Step
    from fmn.store import Record
    from fmn.store.mirror import MARK, PACKS
    from fmn.store.objects import LAYOUT
    from fmn.store.records import ROOT
    from fmn.store.store import RUNS
    from fmn.store.tombstones import TOMBSTONES, Tombstone

    yield "# Formats"
    yield "\n## A store\n"
    layout = [
        (
            f"`{LAYOUT}/ab/cdef…`",
            "objects, by their md5: exactly DVC's layout, so a store is a DVC remote",
        ),
        (
            f"`{ROOT}/KIND/ke/key….json`",
            "one immutable record per result, under the sha256 of what it depends on",
        ),
        (f"`{TAGS}/NAME/number.json`", "a move of a tag; the one with the highest number counts"),
        (
            f"`{TOMBSTONES}/KIND/ke/key….json`",
            "hides the record of that path until `fmn store gc` removes both",
        ),
        (
            f"`{MARK}`",
            "on a server: written anew with every record, so that nobody lists records while "
            "there are no new ones",
        ),
        (
            f"`{PACKS}/….json.gz`",
            "on a server: copies of many records, for machines that have none yet",
        ),
        (f"`{RUNS}/….json`", "what a run did; history, and no result"),
        ("`report/index.html`", "the report, as the last run of the flow wrote it"),
    ]
    yield from table(("path", "holds"), layout)
    yield "\n## A record\n"
    yield from model_tables(Record, set())
    yield "\n### Kinds of records\n"
    import_module("fmn.steps.zoo")  # every step is below Step then
    steps = sorted(
        (
            step
            for step in _below(Step)
            if not inspect.isabstract(step) and not issubclass(step, RecordedFisher)
        ),
        key=lambda step: (step.kind, step.__name__),
    )
    rows = [(f"`{step.kind}`", first(step), first(step.inputs)) for step in steps]
    yield from table(("kind", "of", "its key depends on"), rows)
    for title, kind in (("A tag's move", Tag), ("A tombstone", Tombstone)):
        yield f"\n## {title}\n"
        yield from model_tables(kind, set())
    yield "\n## A Fisher's file, and that of Gram matrices\n"
    yield "A safetensors file; its metadata are texts.\n"
    for fisher in (MaskFisher, DiagonalFisher, GramMatrices):
        yield f"\n### {fisher.kind}\n"
        text, attributes = docstring(fisher)
        yield f"{text}\n\nTensors: {first(fisher.tensors).removeprefix('Iterate over ')}\n"
        plain = [
            each.name
            for each in fields(fisher)
            if each.type in ("str", "int", "Labels", "Placement", "Aggregation")
        ]
        said = [("`kind`", f"`{fisher.kind}`"), ("`format_version`", "of this file")]
        yield from table(
            ("metadata", "meaning"), said + [(f"`{name}`", attributes[name]) for name in plain]
        )
    yield f"""
`fmn fisher push` puts it beside its model, as `{FISHERS}/mask.TASK.safetensors`,
`{FISHERS}/diagonal.TASK.safetensors` or `{FISHERS}/gram.TASK.safetensors`,
with its record under `record` in the metadata. Recipes and zoos find it there, if it belongs to the
weights.
"""
    yield "\n## A merge's directory\n"
    yield marked(SECTION.split(inspect.getdoc(write_merged) or "")[0].partition("\n\n")[2])


def _below(kind: type) -> Iterator[Any]:
    for found in kind.__subclasses__():
        yield found
        yield from _below(found)
