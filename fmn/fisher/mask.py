"""The mask Fisher: no mask tensor, no weight gradient.

One forward pass and one activation-only backward pass.

With z the masked activation and g = ∂ℓ/∂z, a mask node's gradient is ∂ℓ/∂m = Σ z·g over positions
(and over a head's channels). A node that scales what others scale has the sum of their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fmn.architectures import LAYER, Block, Layer, Slices
from fmn.errors import FisherError
from fmn.fisher.result import Aggregation, Labels, MaskFisher, Placement
from fmn.fisher.session import (
    Batch,
    Handle,
    Subject,
    describe,
    is_offloaded,
    lent,
    recomputed,
    sweep,
)
from fmn.recipe import PAPER_NODES, Nodes, all_nodes

CHUNK_BYTES = 32 * 2**20
"""At most this much is held of products z·g at once (but at least one position's)."""


def mask_fisher(
    model: Any,
    batches: Iterable[Batch],
    *,
    labels: Labels = "true",
    nodes: Collection[Nodes] = PAPER_NODES,
    placement: Placement = "after-activation",
    aggregation: Aggregation = "per-example",
    checkpointing: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MaskFisher:
    """Compute the Fisher information of a model's mask nodes.

    See section 3 of Fisher Mask Nodes for Language Model Merging.

    ``I_i = 1/N Σ_(x,y) (∂ℓ(x, y)/∂m_i)²``, ℓ the loss of one example: the result does not depend on
    batch size, order or padding.

    Args:
        model: a transformers model of a known family with a task head; it comes back as it was.
        batches: dicts of tensors as the model takes them, [examples, positions], with ``labels``.
        labels: ``true``: the data's; ``expected``: the exact expectation over the model's own
            prediction; ``sampled``: drawn from it.
        nodes: kinds of nodes; ``attention`` and ``feed-forward``, the paper's, are always among
            them. All come from the same passes.
        placement: of the feed-forward node: on σ(Wx + b), or on Wx within σ(m ∘ Wx + b).
        aggregation: ``per-example``, or ``per-batch``: the sum over batches of the squared gradient
            of the batch's mean loss, to reproduce numbers published so.
        checkpointing: keep only what goes into each layer, and run the layer again in the backward
            pass: the same Fisher in less memory and more time. Where a device map keeps weights off
            the device, it is always so.
        device: where to compute; None: where the model is.
        seed: of sampled labels.
        progress: called with the number of examples of each finished batch.

    Returns:
        the Fisher, of each layer and kind of node [nodes], float32; gradients are summed over
        positions in float32 (or wider), whatever the model computes in, and their squares over
        examples in float64.

    Raises:
        ArchitectureError: the family is unknown, or the model is not what its description says.
        FisherError: unusable options, labels or batches; a hook that never fired; a result that is
            not finite.
    """
    for name, value, choices in (
        *(("nodes", each, Nodes) for each in nodes),
        ("labels", labels, Labels),
        ("placement", placement, Placement),
        ("aggregation", aggregation, Aggregation),
    ):
        if value not in get_args(choices):
            raise FisherError(f"{name}={value!r}: expected one of {', '.join(get_args(choices))}")
    if aggregation == "per-batch" and labels == "expected":
        raise FisherError(
            "aggregation='per-batch' squares one gradient per batch; use it with labels='true' or "
            "'sampled'"
        )
    subject = describe(model)
    masks = _Masks(subject, all_nodes(nodes), placement, aggregation)
    layers = recomputed(subject) if checkpointing or is_offloaded(model) else nullcontext()
    with lent(model, device) as handles, layers:
        masks.attach(handles)
        examples = sweep(
            subject,
            batches,
            labels,
            seed,
            leaves=masks.leaves,
            scored=masks.square,
            progress=progress,
        )
    divisor = examples if aggregation == "per-example" else 1
    values = {key: (total / divisor).float().cpu() for key, total in masks.totals.items()}
    if not all(tensor.isfinite().all() for tensor in values.values()):
        raise FisherError(
            "the mask Fisher is not finite; does the model have NaN or infinite weights?"
        )
    return MaskFisher(
        nodes={(layer, kind): values[kind, layer] for kind, layer in sorted(values)},
        placement=placement,
        aggregation=aggregation,
        examples=examples,
        labels=labels,
        model_type=subject.architecture.model_type,
    )


class _Masks:
    """A model's mask nodes: hooks that take each one's gradient, and running sums of squares."""

    def __init__(
        self,
        subject: Subject,
        nodes: Collection[Nodes],
        placement: Placement,
        aggregation: Aggregation,
    ) -> None:
        self.subject, self.nodes = subject, nodes
        self.placement, self.aggregation = placement, aggregation
        self._mask = torch.ones((), requires_grad=True)
        self.leaves = [self._mask]
        self._keyed: set[tuple[str, int]] = set()  # blocks that have their keys in this pass
        self._gradients: dict[tuple[str, int], Tensor] = {}  # (kind, layer) to [examples, nodes]
        self.totals: dict[tuple[str, int], Tensor] = {}  # to the sums of squares, [nodes], float64

    def attach(self, handles: list[Handle]) -> None:
        for layer in self.subject.layers:
            for block in layer.blocks:
                site = self.subject.modules[block.site]
                if block.part == "feed_forward" and self.placement == "before-activation":
                    first = self.subject.modules[block.pre_activation(self.subject.parameters)]
                    handles.append(
                        first.register_forward_hook(self._pre_activation_hook(layer, block))
                    )
                else:
                    handles.append(site.register_forward_pre_hook(self._input_hook(layer, block)))
                if "kv-groups" in self.nodes and block.keys:
                    keys = block.keys[0]
                    module = self.subject.modules[keys.parameter.rpartition(".")[0]]
                    handles.append(module.register_forward_hook(self._key_hook(layer, block, keys)))
                if not {"residual-channels", "layers"}.isdisjoint(self.nodes):
                    handles.append(site.register_forward_hook(self._output_hook(layer, block)))

    def square(self) -> None:
        """Add the squares of one backward pass's gradients to the sums."""
        for layer in self.subject.layers:
            self._add_up(layer)
            for name in layer.nodes(self.nodes):
                key = name.rpartition(".")[2], layer.number
                if key not in self._gradients:
                    raise FisherError(
                        f"the mask node {name} got no gradient: its module did not run"
                    )
                gradient = self._gradients[key]
                if self.aggregation == "per-batch":
                    gradient = gradient.mean(0, keepdim=True)
                squared = gradient.double().square().sum(0)
                self.totals[key] = self.totals[key] + squared if key in self.totals else squared
        self._gradients.clear()

    def _add_up(self, layer: Layer) -> None:
        """Find the gradients of nodes that scale what other nodes scale, too."""
        of, number = self._gradients, layer.number
        for block in layer.blocks:
            columns = of.get((block.kind("output-columns"), number))
            if columns is not None:
                of[block.part, number] = columns.unflatten(1, (layer.sizes.heads, -1)).sum(2)
            if (block.part, number) not in of:
                what = {"feed_forward": "neurons", "cross_attention": "cross attention"}.get(
                    block.part, "heads"
                )
                raise FisherError(
                    f"the mask node of layer {number}'s {what} got no gradient: its module did not "
                    "run"
                )
        if layer.is_grouped:
            heads = of["attention", number]
            of["key_value", number] = heads.unflatten(1, (layer.sizes.groups, -1)).sum(2)
        for block in (block for block in layer.blocks if block.value):
            # the context is linear in values
            values = of[layer.kind_of(block, block.value[0]), number]
            of[block.kind("value-heads"), number] = values
            groups = block.kind("kv-groups"), number
            if groups in of:
                of[groups] = of[groups] + values
        if "layers" in self.nodes:
            channels = [of[block.kind("residual-channels"), number] for block in layer.blocks]
            of[LAYER, number] = torch.stack([each.sum(1, keepdim=True) for each in channels]).sum(0)

    def _input_hook(
        self, layer: Layer, block: Block
    ) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        kind, count = block.part, layer.sizes.nodes(block.unit)
        if "output-columns" in self.nodes and block.governed_by("output-columns"):
            kind, count = block.kind("output-columns"), layer.sizes.nodes("column")

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            self._keyed.discard((block.part, layer.number))
            return (self._masked(layer, kind, count, inputs[0]), *inputs[1:])

        return hook

    def _output_hook(
        self, layer: Layer, block: Block
    ) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        kind = block.kind("residual-channels")

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return self._masked(layer, kind, layer.sizes.hidden, output)

        return hook

    def _key_hook(
        self, layer: Layer, block: Block, keys: Slices
    ) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        rows = torch.from_numpy(keys.rows(layer.sizes).reshape(-1)) if keys.stack else None
        kind, this = block.kind("kv-groups"), (block.part, layer.number)

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if this in self._keyed:  # DeBERTa runs it for relative positions after the tokens
                return output
            self._keyed.add(this)
            return self._masked(layer, kind, layer.sizes.groups, output, rows=rows)

        return hook

    def _pre_activation_hook(
        self, layer: Layer, block: Block
    ) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        slices = block.first(self.subject.parameters)

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            bias = getattr(module, "bias", None)
            if bias is not None and bias.is_meta:
                raise FisherError(
                    "placement='before-activation' needs "
                    f"{slices.parameter.rpartition('.')[0]}.bias, which the device map keeps "
                    "off the device; use after-activation, or leave the device map out"
                )
            rows = torch.from_numpy(slices.rows(layer.sizes).reshape(-1)) if slices.stack else None
            return self._masked(layer, block.part, layer.sizes.neurons, output, bias, rows)

        return hook

    def _masked(
        self,
        layer: Layer,
        kind: str,
        nodes: int,
        tensor: Tensor,
        bias: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Put mask nodes of a kind on z = tensor - bias, of which the ``rows`` belong to nodes.

        The bias is outside the mask.
        """
        number = layer.number
        if tensor.dim() != 3:
            raise FisherError(
                f"layer {number}: expected an activation [examples, positions, channels], got "
                f"{list(tensor.shape)}; a model that "
                "leaves padding out needs attn_implementation='sdpa'"
            )

        def take(tensor: Tensor, bias: Tensor | None, g: Tensor) -> None:
            self._gradients[kind, number] = _node_gradients(tensor, bias, g, rows, nodes)

        node: Any = _MaskNode
        masked: Tensor = node.apply(tensor, bias, self._mask, take)
        return masked


class _MaskNode(torch.autograd.Function):
    """Multiplies by a mask of ones, which changes nothing.

    Its backward pass hands on z and g = ∂ℓ/∂z.

    Of all inputs of a frozen model only the mask requires a gradient, so the backward pass ends at
    the first node. What it needs is kept the way autograd keeps it, so that checkpointing can leave
    it out.
    """

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, bias: Tensor | None, mask: Tensor, take: Callable[..., None]
    ) -> Tensor:
        ctx.save_for_backward(tensor, bias)
        ctx.take = take
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None]:
        ctx.take(*ctx.saved_tensors, g)
        return g if ctx.needs_input_grad[0] else None, None, None, None


def _node_gradients(
    tensor: Tensor, bias: Tensor | None, g: Tensor, rows: Tensor | None, nodes: int
) -> Tensor:
    """Return Σ z·g over positions and each node's channels, [examples, nodes].

    It is summed in float32 or wider, a piece at a time.
    """
    wide = torch.promote_types(g.dtype, torch.float32)
    rows = None if rows is None else rows.to(g.device)
    fit = max(1, CHUNK_BYTES // (g.shape[-1] * wide.itemsize))  # positions
    examples = max(1, fit // g.shape[1])

    def product(z: Tensor, g: Tensor) -> Tensor:
        z = z if bias is None else z - bias
        if rows is not None:
            z, g = z[..., rows], g[..., rows]
        by_node: Tensor = (z * g.to(wide)).sum(1).unflatten(1, (nodes, -1)).sum(2)
        return by_node

    sums = []
    for some_z, some_g in zip(tensor.split(examples), g.split(examples), strict=True):
        pieces = zip(some_z.split(fit, 1), some_g.split(fit, 1), strict=True)
        sums.append(torch.stack([product(*piece) for piece in pieces]).sum(0))
    return torch.cat(sums)
