"""A model lent for measuring: frozen, in evaluation mode, hooked, and given back as it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from fmn import architectures
from fmn.architectures import Architecture, Layer
from fmn.checkpoint import setting_of
from fmn.errors import FisherError
from fmn.fisher.cotangents import IGNORED, Head, cotangents, head_of, labels_of, targets
from fmn.fisher.result import Labels
from fmn.models import run_forward

Batch = Mapping[str, Tensor]


class Handle(Protocol):
    """What torch returns for a registered hook."""

    def remove(self) -> None:
        """Take the hook off."""


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and what is known of it.

    Attributes:
        model: the model.
        parameters: those of its backbone, by the names that the description has for them.
        modules: those of its backbone.
        architecture: its family's description, checked against it.
        layers: its layers.
        head: what its task head predicts.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    modules: Mapping[str, nn.Module]
    architecture: Architecture
    layers: tuple[Layer, ...]
    head: Head


def describe(model: Any) -> Subject:
    """Find the model's family and check the description against the model.

    Raises:
        ArchitectureError: an unknown family, or a model that does not match the description.
        FisherError: no task head.
    """
    architecture = architectures.get(model.config.model_type)
    layers = architecture.layers(lambda name: setting_of(model.config, name))
    parameters, modules = (
        {short: named[full] for full, short in architecture.backbone(named).items()}
        for named in (architecture.parameters(model), dict(model.named_modules()))
    )
    architecture.check_shapes(
        layers, {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    )
    architecture.check_modules(layers, modules, parameters)
    return Subject(model, parameters, modules, architecture, layers, head_of(model))


@contextmanager
def lent(model: nn.Module, device: str | torch.device | None) -> Iterator[list[Handle]]:
    """Freeze the parameters, switch to evaluation mode and move to ``device``.

    Undo all of it at the end, come what may.

    Yields:
        a list; hooks whose handles are put there are removed at the end.

    Raises:
        FisherError: a device for a model that a device map has placed.
    """
    if device is not None and is_dispatched(model):
        raise FisherError(
            f"device={str(device)!r}: a device map has placed this model's layers already; leave "
            "the device out"
        )
    parameters, modules = list(model.parameters()), list(model.modules())
    required, training = [p.requires_grad for p in parameters], [m.training for m in modules]
    configurations: list[Any] = [getattr(module, "config", None) for module in modules]
    configs = {id(config): config for config in configurations if hasattr(config, "use_cache")}
    caches = [config.use_cache for config in configs.values()]
    home = parameters[0].device
    handles: list[Handle] = []
    try:
        if device is not None:
            model.to(device)
        for parameter in parameters:
            parameter.requires_grad_(False)
        model.eval()
        for config in configs.values():  # keys and values that nobody reads again
            config.use_cache = False
        with torch.enable_grad():
            yield handles
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in zip(parameters, required, strict=True):
            parameter.requires_grad_(flag)
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
        for config, flag in zip(configs.values(), caches, strict=True):
            config.use_cache = flag
        if device is not None:
            model.to(home)


@contextmanager
def recomputed(subject: Subject) -> Iterator[None]:
    """Let each layer keep only its inputs: the backward pass runs it again.

    This is the checkpointing of Chen et al. 2016 (arXiv:1604.06174).

    The layers' own ``forward`` is wrapped, not transformers' option switched on: that one only
    works in training mode, where dropout would be on, and differs between families and versions.
    """
    layers: list[Any] = [
        subject.modules[layer.prefix.removesuffix(".")] for layer in subject.layers
    ]
    # of each module itself: a device map wraps it, too
    own = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.forward = _forgetful(layer.forward)
        # to the end, where a device map puts the layer's weights away again
        with set_checkpoint_early_stop(False):
            yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _forgetful(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


def is_dispatched(model: nn.Module) -> bool:
    """Tell whether a device map has spread the model over several places."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    return len(places) > 1 or "disk" in places


def is_offloaded(model: nn.Module) -> bool:
    """Tell whether a device map keeps weights off the device until their layer runs."""
    return is_dispatched(model) and any(parameter.is_meta for parameter in model.parameters())


def entrance(model: Any) -> torch.device | str | int:
    """Return the device that a model's inputs belong on."""
    if not is_dispatched(model):
        device: torch.device = next(model.parameters()).device
        return device
    places: list[str | int] = list(model.hf_device_map.values())
    return next((place for place in places if place not in ("cpu", "disk")), "cpu")


def sweep(
    subject: Subject,
    batches: Iterable[Batch],
    labels: Labels,
    seed: int,
    *,
    leaves: list[Tensor],
    scored: Callable[[], None],
    progress: Callable[[int], None] | None,
    before: Callable[[Tensor, Tensor], None] | None = None,
) -> int:
    """Run every batch forward once, and backward once per direction of the logits.

    Return how many examples there were.

    Args:
        subject: the model, with the hooks on it that collect scores.
        batches: keyword arguments of the model, with ``labels``.
        labels: which labels the Fisher is taken over.
        seed: of sampled labels.
        leaves: the tensors where the backward pass ends; forward hooks may fill it.
        scored: called after each backward pass.
        progress: called with the number of examples of each finished batch.
        before: called before each backward pass with the logits and their direction; it may run
            passes of its own.
    """
    device = entrance(subject.model)
    examples = 0
    for batch in batches:
        inputs = {name: value.to(device) for name, value in batch.items()}
        done = _differentiate(subject, inputs, labels, seed, leaves, scored, before)
        examples += done
        if progress:
            progress(done)
    if not examples:
        raise FisherError("the batches hold no example; a Fisher is a mean over at least one")
    return examples


def arguments(subject: Subject, batch: Batch) -> dict[str, Tensor]:
    """Return what the model is called with: its inputs, without labels.

    For an encoder-decoder these include the decoder's inputs, which it makes of the labels.
    """
    prepared = {name: value for name, value in batch.items() if name != "labels"}
    if subject.head == "sequences" and "decoder_input_ids" not in batch:
        prepare: Any = subject.model.prepare_decoder_input_ids_from_labels
        prepared["decoder_input_ids"] = prepare(labels=labels_of(batch, "true", subject.head))
    return prepared


class Positions:
    """Which positions of what goes through a model's layers are examples', and no padding."""

    def __init__(self, subject: Subject) -> None:
        """Of a model."""
        self._head = subject.head
        self._masks: list[Tensor] = []

    def begin(self, batch: Batch) -> Batch:
        """Start a batch [examples, positions]; return it as the model is to have it."""
        self._masks = [batch["attention_mask"].bool()] if "attention_mask" in batch else []
        if self._head != "sequences":
            return batch
        labels = labels_of(batch, "true", self._head)
        assert labels is not None
        # a column more, to tell decoder and encoder apart
        if self._masks and labels.shape == self._masks[0].shape:
            labels = functional.pad(labels, (0, 1), value=IGNORED)
        self._masks.append(labels.ne(IGNORED))
        return {**batch, "labels": labels}

    def of(self, name: str, x: Tensor) -> Tensor:
        """Return the mask of an activation [examples, positions, channels], without the channels.

        Raises:
            FisherError: what ``name`` reads or says is at other positions.
        """
        if not self._masks:
            return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
        mask = next((mask for mask in self._masks if mask.shape == x.shape[:-1]), None)
        if mask is None:
            shape = list(self._masks[0].shape)
            raise FisherError(
                f"{name}: its inputs are {list(x.shape)}, which the attention mask {shape} does "
                "not fit; models that read other positions than the examples' have no Gram "
                "matrices, second moments or fitted layers here"
            )
        return mask


def _differentiate(
    subject: Subject,
    inputs: Batch,
    labels: Labels,
    seed: int,
    leaves: list[Tensor],
    scored: Callable[[], None],
    before: Callable[[Tensor, Tensor], None] | None,
) -> int:
    """Do one batch; nothing of it is kept while the next one runs."""
    logits = run_forward(subject.model, arguments(subject, inputs)).logits
    if not logits.requires_grad:
        raise FisherError(
            "no hook fired in the forward pass: this model does not run the modules that its "
            "description names"
        )
    directions = cotangents(
        subject.head, labels, targets(subject.head, logits.detach(), inputs, labels, seed)
    )
    direction = next(directions, None)
    while direction is not None:
        following = next(directions, None)  # the graph is kept only while another direction follows
        if before:
            before(logits, direction.to(logits.dtype))
        torch.autograd.grad(
            logits,
            leaves,
            direction.to(logits.dtype),
            retain_graph=following is not None,
            allow_unused=True,
        )
        scored()
        direction = following
    return len(logits)


__all__ = [
    "Batch",
    "Handle",
    "Positions",
    "Subject",
    "arguments",
    "describe",
    "entrance",
    "is_offloaded",
    "lent",
    "recomputed",
    "sweep",
]
