"""Whether models can be merged: everything that can be checked before the first tensor is read."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from fmn import architectures
from fmn.architectures import Architecture, Layer
from fmn.checkpoint import FLOATS, Tensors
from fmn.checkpoint.tokenizer import tokenizer_offence
from fmn.errors import ArchitectureError, MergeError, ParamsError
from fmn.merging.parent import doubt, is_unchanged
from fmn.merging.rules import Rule
from fmn.merging.source import Source
from fmn.recipe import SAFE_NAME
from fmn.statistics import Backbone, Measurement, Statistic, get_statistic


def check(
    sources: Sequence[Source],
    rule: Rule,
    pending: Collection[str] = (),
    parent: Source | None = None,
) -> tuple[Architecture, tuple[Layer, ...]]:
    """Check everything that can be checked without merging; return the models' family and layers.

    Args:
        sources: the models.
        rule: the merge rule.
        pending: tasks whose statistics are still to be computed.
        parent: of the models, where the rule needs it.

    Raises:
        MergeError: with every offence.
        ParamsError: a statistic of the rule that no package here brings.
    """
    offences = list(_weight_offences(sources)) + list(_task_offences(sources))
    architecture, layers, alike = _families(sources, offences)
    if architecture and layers:
        backbones = [source.backbone(architecture, layers) for source in alike]
        offences += _tie_offences(architecture, alike)
        offences += _shape_offences(alike, backbones)
        offences += _tokenizer_offences(alike)
        if parent and rule.parent:
            wrong = parent_offences(parent, alike[0])
            offences += [
                f"parent {offence}; name the model that all are fine-tunes of" for offence in wrong
            ]
        for name in rule.statistics:
            statistic = _needed(rule, name)
            for source, backbone in zip(alike, backbones, strict=True):
                measurement = source.statistics.get(name)
                if measurement:
                    offences += _measurement_offences(
                        source, rule, statistic, measurement, backbone
                    )
                elif source.weight > 0 and source.task not in pending:
                    offences.append(_missing(source, rule, statistic))
            offences += _unlike(alike, statistic)
    if offences or not architecture or not layers:
        raise MergeError(offences)
    return architecture, layers


def _needed(rule: Rule, name: str) -> Statistic:
    try:
        return get_statistic(name)
    except ParamsError as error:
        raise ParamsError(
            f"method {rule.name} needs what no package here brings: {error}"
        ) from error


def _missing(source: Source, rule: Rule, statistic: Statistic) -> str:
    others = [
        each.kind or "file of another kind"
        for each in source.statistics.values()
        if each.kind not in rule.statistics
    ]
    if others:
        return (
            f"{source.name}: method {rule.name} needs a {statistic.title} ({statistic.name}), this "
            f"is a {others[0]}; compute it with {statistic.how}"
        )
    return (
        f"{source.name}: method {rule.name} needs its {statistic.title}; compute it with "
        f"{statistic.how}"
    )


def _measurement_offences(
    source: Source,
    rule: Rule,
    statistic: Statistic,
    measurement: Measurement,
    backbone: Backbone,
) -> Iterator[str]:
    metadata = measurement.metadata
    if metadata.get("model_type") != source.model_type:
        yield (
            f"{source.name}: {statistic.title} of a {metadata.get('model_type')} model, this is a "
            f"{source.model_type} model"
        )
    elif metadata.get("model") and metadata["model"] != source.digest:
        whole = (
            ""
            if source.checkpoint
            else "; if it is of this model's file, which may hold more: give the directory"
        )
        digests = f"weights {metadata['model'][:12]}, these are {source.digest[:12]}"
        yield f"{source.name}: {statistic.title} of another model ({digests}){whole}"
    else:
        for offence in statistic.offences(measurement, backbone):
            yield f"{source.name}: {offence}"
        if lack := statistic.lacks(measurement, dict(rule.reading)):
            yield f"{source.name}: {lack}"


def _unlike(sources: Sequence[Source], statistic: Statistic) -> Iterator[str]:
    having = [
        (source, source.statistics[statistic.name])
        for source in sources
        if statistic.name in source.statistics
    ]
    for source, measurement in having[1:]:
        if why := statistic.unlike(measurement.metadata, having[0][1].metadata):
            yield (
                f"{source.name}: its {statistic.title} cannot be compared with that of "
                f"{having[0][0].name}: {why}; compute both in the same way"
            )


def doubts(sources: Sequence[Source], parent: Source | None) -> Iterator[str]:
    """Iterate over reasons to doubt that a model is the parent of others that fit it.

    See :func:`fmn.merging.parent.doubt`. A model that is the parent itself is no fine-tune of it.
    """
    if parent:
        architecture = architectures.get(parent.model_type)
        origin = parent.backbone(architecture, ()).tensors
        models = {
            source.name: source.backbone(architecture, ()).tensors
            for source in sources
            if source.weight > 0
        }
        line = doubt(parent.name, origin, list(models.values()))
        yield from [line] if line else []
        for name, model in models.items():
            if is_unchanged(origin, model):
                yield (
                    f"{name}: its backbone is its parent's, {parent.name}: a task vector of 0, "
                    "which adds nothing to a merge; is it the fine-tune that is meant?"
                )


def _weight_offences(sources: Sequence[Source]) -> Iterator[str]:
    wrong = [source for source in sources if not math.isfinite(source.weight) or source.weight < 0]
    for source in wrong:
        yield f"{source.name}: weight {source.weight}; expected a finite number, 0 or more"
    if not wrong and not any(source.weight for source in sources):
        yield "every weight is 0; expected at least one above 0"


def _task_offences(sources: Sequence[Source]) -> Iterator[str]:
    seen: set[str] = set()
    for source in sources:
        if not SAFE_NAME.fullmatch(source.task) or source.task == "backbone":
            yield (
                f"{source.name}: task {source.task!r} cannot name a directory; expected letters, "
                "digits, '_', '.', '-'"
            )
        if source.task in seen:
            yield (
                f"{source.name}: a second model for task '{source.task}'; each task needs a name "
                "of its own"
            )
        seen.add(source.task)


def _families(
    sources: Sequence[Source], offences: list[str]
) -> tuple[Architecture | None, tuple[Layer, ...], list[Source]]:
    """Return the first model's family and layers, and the models that share them.

    Add an offence for each that does not.
    """
    first, alike = sources[0], []
    try:
        architecture = architectures.get(first.model_type)
        layers = architecture.layers(first.setting)
    except ArchitectureError as error:
        offences.append(f"{first.name}: {error}")
        return None, (), []
    for source in sources:
        if source.model_type != first.model_type:
            offences.append(
                f"{source.name}: a {source.model_type} model; "
                f"{first.name} is a {first.model_type} model"
            )
            continue
        try:
            if (other := architecture.layers(source.setting)) == layers:
                alike.append(source)
            else:
                offences.append(
                    f"{source.name}: {_differing(other, layers)}; "
                    f"{first.name} has {_differing(layers, other)}"
                )
        except ArchitectureError as error:
            offences.append(f"{source.name}: {error}")
    return architecture, layers, alike


def _differing(layers: Sequence[Layer], other: Sequence[Layer]) -> str:
    """Say in what the layers differ: in their number, or in the first sizes that differ."""
    if len(layers) != len(other):
        return f"{len(layers)} layers"
    sizes, others = next(
        ((one.sizes, two.sizes) for one, two in zip(layers, other, strict=True) if one != two),
        (layers[0].sizes, other[0].sizes),
    )
    names = [name for name in vars(sizes) if getattr(sizes, name) != getattr(others, name)]
    return (
        ", ".join(f"{getattr(sizes, name)} {name.replace('_', ' ')}" for name in names)
        or "its layers in other stacks"
    )


def _tie_offences(architecture: Architecture, sources: Sequence[Source]) -> Iterator[str]:
    """Yield an offence for each model that ties its embeddings otherwise than the first.

    Asked where it makes a difference.
    """
    if any(architecture.is_tied(name) for source in sources for name in source.tensors):
        for source in sources:
            if source.is_tied != sources[0].is_tied:
                tied, free = (source, sources[0]) if source.is_tied else (sources[0], source)
                yield (
                    f"{source.name}: tie_word_embeddings differs: the output matrix of {tied.name} "
                    f"is its word embeddings, {free.name} has one of its own; expected fine-tunes "
                    "of one parent"
                )


def _shape_offences(sources: Sequence[Source], backbones: Sequence[Backbone]) -> Iterator[str]:
    sound: list[tuple[Source, Tensors]] = []
    architecture, layers = backbones[0].architecture, backbones[0].layers
    for source, backbone in zip(sources, backbones, strict=True):
        try:
            architecture.check_shapes(layers, backbone.shapes)
            sound.append((source, backbone.tensors))
        except ArchitectureError as error:
            yield f"{source.name}: {error}"
    for source, tensors in sound:
        first, reference = sound[0]
        if forms := _other_forms(layers, tensors, reference):
            yield (
                f"{source.name}: has {forms[0]}, {first.name} has {forms[1]}; "
                "expected fine-tunes of one parent"
            )
            continue
        for name in sorted(reference.keys() ^ tensors.keys()):
            if not name.startswith(architecture.optional):
                here, there = (source, first) if name in tensors else (first, source)
                yield f"{there.name}: has no tensor {name}, which {here.name} has"
        for name in sorted(reference.keys() & tensors.keys()):
            if tensors[name].shape != reference[name].shape:
                yield (
                    f"{source.name}: {name} has shape {list(tensors[name].shape)}, "
                    f"{list(reference[name].shape)} in "
                    f"{first.name}; expected fine-tunes of one parent"
                )
            if tensors[name].dtype not in FLOATS:
                yield (
                    f"{source.name}: {name} holds {tensors[name].dtype}, which cannot be "
                    "averaged; expected floating point, not quantised"
                )


def parent_offences(parent: Source, model: Source) -> list[str]:
    """Return why a model cannot be the parent of another, one line each."""
    offences: list[str] = []
    architecture, layers, alike = _families([model, parent], offences)
    if architecture and layers and len(alike) == 2:
        own, its = (source.backbone(architecture, layers) for source in alike)
        # what only the parent has, nobody asks for
        asked = {name: tensor for name, tensor in its.tensors.items() if name in own.tensors}
        offences += _shape_offences(alike, [own, replace(its, tensors=asked)])
    return offences


def _other_forms(
    layers: Sequence[Layer], backbone: Tensors, reference: Tensors
) -> tuple[str, str] | None:
    """Return what two models have of the first block whose optional parameters differ.

    Such a block is, say, a gated feed-forward in one and a plain one in the other.
    """
    for block in (block for layer in layers for block in layer.blocks):
        named = dict.fromkeys(slices.parameter for slices in block.slices() if slices.optional)
        here, there = (
            [name for name in named if name in tensors] for tensors in (backbone, reference)
        )
        if here != there:
            return " and ".join(here) or f"no {' or '.join(there)}", " and ".join(
                there
            ) or f"no {' or '.join(here)}"
    return None


def _tokenizer_offences(sources: Sequence[Source]) -> Iterator[str]:
    checkpoints = [source.checkpoint for source in sources if source.checkpoint]
    for other in checkpoints[1:]:
        if offence := tokenizer_offence(checkpoints[0], other):
            yield offence
