"""What is to be merged, checked in full before the first tensor is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fmn import architectures
from fmn.architectures import Architecture, Layer
from fmn.checkpoint import DTYPES, FLOATS, Tensors, TensorSpec
from fmn.checkpoint.tokenizer import tokenizer_offence
from fmn.errors import ArchitectureError, MergeError
from fmn.merging.importance import Importance, diagonal_importance, mask_importance, no_importance
from fmn.merging.parent import doubt
from fmn.merging.regmean import Grams
from fmn.merging.rules import Rule, misuse
from fmn.merging.source import Source
from fmn.recipe import SAFE_NAME, Dtype, Parameters

DTYPE_OF = {"float32": DTYPES["F32"], "bfloat16": DTYPES["BF16"], "float16": DTYPES["F16"]}


@dataclass(frozen=True)
class Plan:
    """A merge that can be done.

    Attributes:
        sources: the models in canonical order; those of weight 0 give a task head only.
        rule: the merge rule.
        architecture: the models' family.
        names: merged tensors: backbone-relative name to the name it will have.
        specs: what each of them will be, by the name it will have, in alphabetical order.
        backbones: per model of ``weighted``, backbone-relative name to tensor.
        importances: per model of ``weighted``.
        grams: per model of ``weighted``, where the rule takes Gram matrices.
        origin: the models' parent, where the rule needs it.
        parent: its backbone-relative name to tensor.
        settings: what the rule is told.
    """

    sources: tuple[Source, ...]
    rule: Rule
    architecture: Architecture
    names: Mapping[str, str]
    specs: Mapping[str, TensorSpec]
    backbones: tuple[Tensors, ...]
    importances: tuple[Importance, ...]
    grams: tuple[Grams, ...] = ()
    origin: Source | None = None
    parent: Tensors = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weighted(self) -> tuple[Source, ...]:
        """The models that have a share in the backbone."""
        return tuple(source for source in self.sources if source.weight > 0)

    @property
    def elements(self) -> int:
        """How many numbers are merged."""
        return sum(tensor.size for tensor in self.backbones[0].values())

    def head(self, source: Source) -> dict[str, np.ndarray[Any, Any]]:
        """Return what stays with a model's task, by full name.

        That is its task head and what not all models have of the backbone.
        """
        full = self.architecture.backbone(source.tensors)
        return {
            name: tensor
            for name, tensor in source.tensors.items()
            if full.get(name) not in self.names
            and tensor.dtype in FLOATS
            and self.architecture.is_head(name)
            and name not in source.copies
        }

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of most merged numbers: the models' and those kept beside the backbone."""
        numbers: Counter[np.dtype[Any]] = Counter()
        for spec in self.specs.values():
            numbers[spec.dtype] += math.prod(spec.shape)
        return numbers.most_common(1)[0][0]


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
        pending: tasks whose Fisher is still to be computed.
        parent: of the models, where the rule needs it.

    Raises:
        MergeError: with every offence.
    """
    offences = list(_weight_offences(sources)) + list(_task_offences(sources))
    architecture, layers, alike = _families(sources, offences)
    if architecture and layers:
        backbones = [_backbone(architecture, source) for source in alike]
        offences += _tie_offences(architecture, alike)
        offences += _shape_offences(architecture, layers, alike, backbones)
        offences += _tokenizer_offences(alike)
        if parent and rule.parent:
            wrong = parent_offences(parent, alike[0])
            offences += [
                f"parent {offence}; name the model that all are fine-tunes of" for offence in wrong
            ]
        if rule.statistic:
            for source, backbone in zip(alike, backbones, strict=True):
                if source.fisher or (source.weight > 0 and source.task not in pending):
                    offences += _fisher_offences(source, rule, layers, backbone)
            offences += _unlike_fishers(alike)
    if offences or not architecture or not layers:
        raise MergeError(offences)
    return architecture, layers


def make_plan(
    sources: Sequence[Source],
    rule: Rule,
    parameters: Parameters,
    dtype: Dtype,
    parent: Source | None = None,
) -> Plan:
    """Check the models, then put them into canonical order.

    Raises:
        MergeError: with every offence.
    """
    architecture, layers = check(sources, rule, parent=parent)
    if wrong := list(
        misuse(rule, [source.weight for source in sources], has_parent=parent is not None)
    ):
        raise MergeError(wrong)
    ordered = sorted(sources, key=lambda source: source.order)
    weighted = [source for source in ordered if source.weight > 0]
    backbones = [_backbone(architecture, source) for source in weighted]
    everywhere = [_backbone(architecture, source) for source in ordered]
    shared = sorted(name for name in backbones[0] if all(name in other for other in everywhere))
    # an old file's pooler, which the model's class has no more
    lacking = {
        name
        for name in shared
        for source in weighted
        if source.fisher and name not in source.fisher.tensors
    }
    full = _full_names(architecture, ordered)
    specs = {
        full[name]: TensorSpec(
            _dtype(dtype, [b[name] for b in backbones]), backbones[0][name].shape
        )
        for name in shared
    }
    return Plan(
        sources=tuple(ordered),
        rule=rule,
        architecture=architecture,
        names={name: full[name] for name in shared},
        specs=dict(sorted(specs.items())),
        backbones=tuple(backbones),
        importances=tuple(
            _importance(rule, layers, source, parameters, lacking) for source in weighted
        ),
        grams=tuple(
            Grams.of(s.fisher.tensors, s.fisher.metadata)
            for s in weighted
            if s.fisher and rule.statistic == "gram"
        ),
        origin=parent if rule.parent else None,
        parent=_backbone(architecture, parent) if parent and rule.parent else {},
        settings=rule.settings(parameters),
    )


def doubts(sources: Sequence[Source], parent: Source | None) -> Iterator[str]:
    """Iterate over reasons to doubt that a model is the parent of others that fit it.

    See :func:`fmn.merging.parent.doubt`.
    """
    if parent:
        architecture = architectures.get(parent.model_type)
        models = [_backbone(architecture, source) for source in sources if source.weight > 0]
        line = doubt(parent.name, _backbone(architecture, parent), models)
        yield from [line] if line else []


def _full_names(architecture: Architecture, sources: Sequence[Source]) -> dict[str, str]:
    """Return the names for backbone tensors: those of the first task model, or the first model."""
    chosen = next(
        (source for source in sources if architecture.prefix_of(source.tensors)), sources[0]
    )
    return {short: full for full, short in architecture.backbone(chosen.tensors).items()}


def _backbone(architecture: Architecture, source: Source) -> dict[str, np.ndarray[Any, Any]]:
    found = architecture.backbone(source.tensors)
    return {
        short: source.tensors[full] for full, short in found.items() if full not in source.copies
    }


def _dtype(dtype: Dtype, tensors: Sequence[np.ndarray[Any, Any]]) -> np.dtype[Any]:
    if dtype != "same":
        return DTYPE_OF[dtype]
    found = {tensor.dtype for tensor in tensors}
    widest = [one for one in found if one.itemsize == max(other.itemsize for other in found)]
    return (
        widest[0] if len(widest) == 1 else DTYPES["F32"]
    )  # neither float16 nor bfloat16 holds the other


def _importance(
    rule: Rule,
    layers: Sequence[Layer],
    source: Source,
    parameters: Parameters,
    lacking: Collection[str],
) -> Importance:
    if source.fisher is None or rule.importance is None:
        return no_importance
    if rule.importance == "diagonal-fisher":
        return diagonal_importance(source.fisher.tensors, parameters.normalize, lacking)
    return mask_importance(
        layers, source.fisher.tensors, parameters.association, parameters.normalize
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


def _shape_offences(
    architecture: Architecture,
    layers: Sequence[Layer],
    sources: Sequence[Source],
    backbones: Sequence[Tensors],
) -> Iterator[str]:
    sound: list[tuple[Source, Tensors]] = []
    for source, backbone in zip(sources, backbones, strict=True):
        try:
            architecture.check_shapes(
                layers, {name: tensor.shape for name, tensor in backbone.items()}
            )
            sound.append((source, backbone))
        except ArchitectureError as error:
            yield f"{source.name}: {error}"
    for source, backbone in sound:
        first, reference = sound[0]
        if forms := _other_forms(layers, backbone, reference):
            yield (
                f"{source.name}: has {forms[0]}, {first.name} has {forms[1]}; "
                "expected fine-tunes of one parent"
            )
            continue
        for name in sorted(reference.keys() ^ backbone.keys()):
            if not name.startswith(architecture.optional):
                here, there = (source, first) if name in backbone else (first, source)
                yield f"{there.name}: has no tensor {name}, which {here.name} has"
        for name in sorted(reference.keys() & backbone.keys()):
            if backbone[name].shape != reference[name].shape:
                yield (
                    f"{source.name}: {name} has shape {list(backbone[name].shape)}, "
                    f"{list(reference[name].shape)} in "
                    f"{first.name}; expected fine-tunes of one parent"
                )
            if backbone[name].dtype not in FLOATS:
                yield (
                    f"{source.name}: {name} holds {backbone[name].dtype}, which cannot be "
                    "averaged; expected floating point, not quantised"
                )


def parent_offences(parent: Source, model: Source) -> list[str]:
    """Return why a model cannot be the parent of another, one line each."""
    offences: list[str] = []
    architecture, layers, alike = _families([model, parent], offences)
    if architecture and layers and len(alike) == 2:
        own, its = (_backbone(architecture, source) for source in alike)
        its = {
            name: tensor for name, tensor in its.items() if name in own
        }  # what only the parent has, nobody asks for
        offences += _shape_offences(architecture, layers, alike, [own, its])
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


def _fisher_offences(
    source: Source, rule: Rule, layers: Sequence[Layer], backbone: Tensors
) -> Iterator[str]:
    fisher = source.fisher
    if fisher is None:
        how = (
            "'fmn fisher --kind gram' or fmn.gram_matrices"
            if rule.statistic == "gram"
            else "'fmn fisher' or fmn.mask_fisher"
        )
        yield f"{source.name}: method {rule.name} needs its {rule.statistic}; compute it with {how}"
        return
    said = fisher.metadata
    if said.get("kind") != rule.statistic:
        yield (
            f"{source.name}: method {rule.name} needs a {rule.statistic}, this is a "
            f"{said.get('kind', 'file of another kind')}"
        )
        return
    if said.get("model_type") != source.model_type:
        yield (
            f"{source.name}: its Fisher is of a {said.get('model_type')} model, this is a "
            f"{source.model_type} model"
        )
        return
    if said.get("model") and said["model"] != source.digest:
        whole = (
            ""
            if source.checkpoint
            else "; if it is of this model's file, which may hold more: give the directory"
        )
        of, is_ = said["model"][:12], source.digest[:12]
        yield (
            f"{source.name}: its Fisher belongs to another model (weights {of}, these are {is_})"
            f"{whole}"
        )
        return
    if rule.statistic == "gram":
        offences = Grams.of(fisher.tensors, said).offences(
            {name: tensor.shape for name, tensor in backbone.items()}
        )
        yield from (f"{source.name}: {offence}" for offence in offences)
        return
    optional = architectures.get(
        source.model_type
    ).optional  # parts that no class of model has any more are without a Fisher
    full = {
        n: t.shape for n, t in backbone.items() if n in fisher.tensors or not n.startswith(optional)
    }
    expected = _node_shapes(layers) if rule.importance == "mask-fisher" else full
    found = {name: tensor.shape for name, tensor in fisher.tensors.items()}
    if found != expected:
        name = min(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        shapes = f"has shape {found.get(name)}, expected {expected.get(name)}"
        yield f"{source.name}: its Fisher's {name} {shapes}; is it of this model?"
        return
    if (
        rule.importance == "mask-fisher"
    ):  # small; a diagonal Fisher is checked piece by piece as it is read
        bad = [
            name
            for name, tensor in fisher.tensors.items()
            if not (np.isfinite(tensor) & (tensor >= 0)).all()
        ]
        if bad:
            yield (
                f"{source.name}: its Fisher's {bad[0]} holds NaN, infinite or negative values; "
                "compute it again"
            )


def _node_shapes(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    return {name: (count,) for layer in layers for name, count in layer.nodes().items()}


def _unlike_fishers(sources: Sequence[Source]) -> Iterator[str]:
    having = [(source, source.fisher.metadata) for source in sources if source.fisher]
    for source, said in having[1:]:
        if said.get("inputs") != having[0][1].get("inputs"):
            yield (
                f"{source.name}: its Gram matrices are for other parameters than "
                f"{having[0][0].name}'s; compute both again"
            )
        for setting in ("labels", "placement", "aggregation"):
            if said.get(setting) != having[0][1].get(setting):
                yield (
                    f"{source.name}: its Fisher was taken with {setting} {said.get(setting)}, that "
                    f"of {having[0][0].name} with {having[0][1].get(setting)}; they cannot be "
                    "compared"
                )
