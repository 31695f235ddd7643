"""The full diagonal Fisher of the backbone, exact and per example, from hooks.

Each module's per-example weight gradient is a product of what went in and the gradient of what came
out (for a linear layer G_n = Σ_t g_nt a_ntᵀ); it is formed for a few examples at a time, squared
and summed, so that no more than ``CHUNK_BYTES`` of per-example gradients exist at once. A module
without a rule of its own is differentiated by torch.func, example by example.

Where a module runs once for all examples (relative position embeddings), neither says whose
gradient is whose: its parameters take a backward pass per example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from fmn.errors import FisherError
from fmn.fisher.result import DiagonalFisher, Labels
from fmn.fisher.session import Batch, Handle, Subject, describe, lent, sweep

CHUNK_BYTES = 32 * 2**20
"""At most this much is held of per-example gradients of one parameter (but at least one example's).
"""


def diagonal_fisher(
    model: Any,
    batches: Iterable[Batch],
    *,
    labels: Labels = "expected",
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> DiagonalFisher:
    """Compute the diagonal of a backbone's Fisher information (Matena and Raffel 2022, equation 4).

    ``F_j = 1/N Σ_x Σ_y p(y|x) (∂ log p(y|x)/∂θ_j)²`` with the exact expectation over y, one example
    at a time.

    Args:
        model: a transformers model of a known family with a task head; it comes back as it was.
        batches: dicts of tensors as the model takes them, [examples, positions].
        labels: ``expected``; ``true`` (the empirical Fisher) and ``sampled`` need one backward pass
            per batch.
        device: where to compute; None: where the model is.
        seed: of sampled labels.
        progress: called with the number of examples of each finished batch.

    Returns:
        the Fisher, from backbone-relative parameter names to float32 tensors of their shapes,
        accumulated in float32 over one batch and in float64 over batches.

    Raises:
        ArchitectureError: the family is unknown, or the model is not what its description says.
        FisherError: unusable labels or batches; a module whose gradients cannot be separated by
            example.
    """
    if labels not in get_args(Labels):
        raise FisherError(f"labels={labels!r}: expected one of {', '.join(get_args(Labels))}")
    subject = describe(model)
    # DeBERTa's other head
    is_new = getattr(model.config, "legacy", True) is False
    if is_new and type(model).__name__.endswith("ForMaskedLM"):
        raise FisherError(
            f"{type(model).__name__} with legacy=false multiplies by its word embeddings outside "
            "any module, where no hook sees it; take a mask Fisher"
        )
    with lent(model, device) as handles:
        parameters = _Parameters(subject)
        parameters.attach(handles)
        examples = sweep(
            subject,
            batches,
            labels,
            seed,
            leaves=parameters.leaves,
            scored=parameters.join,
            progress=progress,
            before=parameters.one_by_one,
        )
    result = {name: (total / examples).float().cpu() for name, total in parameters.totals.items()}
    if not all(tensor.isfinite().all() for tensor in result.values()):
        raise FisherError(
            "the diagonal Fisher is not finite; does the model have NaN or infinite weights?"
        )
    return DiagonalFisher(
        parameters=result,
        examples=examples,
        labels=labels,
        model_type=subject.architecture.model_type,
    )


@dataclass(frozen=True)
class _Call:
    """One call of a module: what went in, and the gradient of what came out."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    g: Tensor

    @property
    def a(self) -> Tensor:
        """The first thing that went in."""
        tensor = next(
            value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor)
        )
        return (
            tensor if len(tensor) == len(self.g) else tensor.expand(len(self.g), *tensor.shape[1:])
        )


@dataclass(frozen=True)
class _Use:
    """A call, and the parameter that it concerns."""

    call: _Call
    key: str

    @property
    def is_lookup(self) -> bool:
        """Whether the parameter is a table, of which an example uses few rows."""
        return isinstance(self.call.module, nn.Embedding) and _rules(self.call.module) is not None

    def per_example(self, examples: slice) -> Tensor:
        """Return the gradients [examples, *shape of the parameter]."""
        rules = _rules(self.call.module)
        if rules is None:
            return _differentiated(self.call, self.key, examples)
        return rules[self.key](self.call.module, self.call.a[examples], self.call.g[examples])


class _Parameters:
    """The backbone's parameters: hooks on their modules, and running sums of squared gradients."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.leaves: list[Tensor] = []
        self.once = {
            name: p for name, p in subject.parameters.items() if subject.architecture.is_once(name)
        }
        self.names = {parameter: name for name, parameter in subject.parameters.items()}
        self.totals = {
            name: torch.zeros_like(p, dtype=torch.float64) for name, p in subject.parameters.items()
        }
        self._examples = 0
        # the hooks are not to listen: a module runs, or a backward pass is made, for a purpose of
        # ours
        self._is_quiet = False
        self._calls: dict[str, int] = {}
        self._waiting: dict[str, list[_Use]] = {}

    def attach(self, handles: list[Handle]) -> None:
        """Hook every module that holds a backbone parameter, also in the head (a tied decoder)."""
        for parameter in self.once.values():
            parameter.requires_grad_(True)
        handles.append(self.subject.model.register_forward_pre_hook(self._begin, with_kwargs=True))
        for _, module in self.subject.model.named_modules():
            own = {
                key: self.names[p]
                for key, p in module.named_parameters(recurse=False)
                if p in self.names
            }
            own = {key: name for key, name in own.items() if name not in self.once}
            if own:
                handles.append(module.register_forward_hook(self._hook(own), with_kwargs=True))

    def one_by_one(self, logits: Tensor, direction: Tensor) -> None:
        """Take the gradients of parameters whose modules run once, one backward pass an example."""
        self._is_quiet = True
        for example in range(len(logits) if self.once else 0):
            alone = torch.zeros_like(direction)
            alone[example] = direction[example]
            gradients = torch.autograd.grad(
                logits, list(self.once.values()), alone, retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(self.once, gradients, strict=True):
                if gradient is not None:
                    self._calls[name] = 1
                    self.totals[name] += gradient.double().square()
        self._is_quiet = False

    def join(self) -> None:
        """Finish a backward pass for parameters with several uses.

        Their gradients add up before they are squared.
        """
        for name, uses in self._waiting.items():
            self._add(name, uses)
        self._waiting.clear()
        never = [
            name
            for name in self.totals
            if name not in self._calls and not name.startswith(self._optional)
        ]
        if never:
            raise FisherError(f"no hook fired for {never[0]}: its module did not run")

    @property
    def _optional(self) -> tuple[str, ...]:
        return self.subject.architecture.optional

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.leaves.clear()
        self._calls.clear()
        self._examples = len(next(value for value in kwargs.values() if isinstance(value, Tensor)))

    def _hook(self, own: dict[str, str]) -> Callable[..., Any]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> Any:
            if self._is_quiet:
                return output
            if not output.requires_grad:  # an embedding: the backward pass ends here
                output = output.detach()
                if len(output) == 1:  # positions, looked up once for all examples
                    output = output.expand(self._examples, *output.shape[1:])
                self.leaves.append(output.requires_grad_())
            if len(output) != self._examples:
                name = next(iter(own.values()))
                raise FisherError(
                    f"{name}: its module runs once for all examples; the family's description must "
                    "name it among 'once'"
                )
            for name in own.values():
                self._calls[name] = self._calls.get(name, 0) + 1
            inputs, named = (
                _detached(args),
                dict(zip(kwargs, _detached(kwargs.values()), strict=True)),
            )

            def score(g: Tensor) -> None:
                if self._is_quiet:
                    return
                call = _Call(module, inputs, named, g)
                for key, name in own.items():
                    use = _Use(call, key)
                    if self._calls[name] == 1:
                        self._add(name, [use])
                    else:
                        self._waiting.setdefault(name, []).append(use)

            output.register_hook(score)
            return output

        return hook

    def _add(self, name: str, uses: list[_Use]) -> None:
        """Add Σ_n G_n², a few examples at a time; G_n sums the gradients of example n's uses."""
        total = self.totals[name]
        if len(uses) == 1 and uses[0].is_lookup:
            _add_sparse(total, uses[0].call)
            return
        g = uses[0].call.g
        chunk = max(1, CHUNK_BYTES // (total.numel() * g.element_size()))
        wide = torch.promote_types(g.dtype, torch.float32)
        squares = torch.zeros(total.shape, dtype=wide, device=total.device)
        for start in range(0, len(g), chunk):
            self._is_quiet = True
            gradients = sum(use.per_example(slice(start, start + chunk)).to(wide) for use in uses)
            self._is_quiet = False
            assert isinstance(gradients, Tensor)
            if len(gradients) == 1:
                squares.addcmul_(gradients[0], gradients[0])
            else:
                squares.add_(gradients.square().sum(0))
        total.add_(squares)


def _add_sparse(total: Tensor, call: _Call) -> None:
    """Sum an embedding's gradient per (example, row), then square the sums.

    The gradient is zero but for the rows that an example uses.
    """
    module, a, g = call.module, call.a, _unscaled(call.module, call.g)
    assert isinstance(module, nn.Embedding)
    examples, vocabulary = len(g), len(total)
    keys = a + torch.arange(examples, device=a.device)[:, None] * vocabulary
    g = g.reshape(-1, g.shape[-1]).to(torch.promote_types(g.dtype, torch.float32))
    unique, where = keys.reshape(-1).unique(return_inverse=True)
    sums = torch.zeros(len(unique), g.shape[1], dtype=g.dtype, device=g.device).index_add_(
        0, where, g
    )
    rows = unique % vocabulary
    kept = rows != (-1 if module.padding_idx is None else module.padding_idx)
    total.index_add_(0, rows[kept], sums[kept].double().square())


def _detached(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(value.detach() if isinstance(value, Tensor) else value for value in values)


def _differentiated(call: _Call, key: str, examples: slice) -> Tensor:
    """Run the module again for each example alone.

    Return the gradients [examples, *shape] of one of its parameters.
    """
    module, count, names = call.module, len(call.g), list(call.kwargs)
    inputs = [*call.args, *call.kwargs.values()]
    batched = [
        isinstance(value, Tensor) and value.dim() > 0 and len(value) == count for value in inputs
    ]

    def gradient(g: Tensor, *each: Any) -> Tensor:
        alone = [
            value[None] if is_batched else value
            for value, is_batched in zip(each, batched, strict=True)
        ]
        args, kwargs = (
            alone[: len(call.args)],
            dict(zip(names, alone[len(call.args) :], strict=True)),
        )

        def output(parameter: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(
                module, {key: parameter}, tuple(args), kwargs
            )
            return outputs[0]

        pull: Any = torch.func.vjp(output, module.get_parameter(key).detach())[1]
        pulled: Tensor = pull(g)[0]
        return pulled

    taken = [
        value[examples] if is_batched else value
        for value, is_batched in zip(inputs, batched, strict=True)
    ]
    dimensions = (0, *(0 if is_batched else None for is_batched in batched))
    result: Tensor = torch.func.vmap(gradient, in_dims=dimensions)(call.g[examples], *taken)
    return result


def _positions(tensor: Tensor) -> Tensor:
    """View [examples, …, channels] as [examples, positions, channels]."""
    return tensor.reshape(len(tensor), -1, tensor.shape[-1])


def _linear_weight(module: nn.Module, a: Tensor, g: Tensor) -> Tensor:
    return _positions(g).mT @ _positions(a)


def _conv1d_weight(module: nn.Module, a: Tensor, g: Tensor) -> Tensor:
    return _positions(a).mT @ _positions(g)


def _sum_positions(module: nn.Module, a: Tensor, g: Tensor) -> Tensor:
    return _positions(g).sum(1)


def _layer_norm_weight(module: nn.Module, a: Tensor, g: Tensor) -> Tensor:
    assert isinstance(module, nn.LayerNorm)
    return _positions(g * functional.layer_norm(a, module.normalized_shape, eps=module.eps)).sum(1)


def _unscaled(module: nn.Module, g: Tensor) -> Tensor:
    """Return the gradient of the looked-up rows, before they were scaled (by BART and Gemma)."""
    scale: Any = getattr(module, "embed_scale", None)
    return g if type(module).forward is nn.Embedding.forward else g * scale


def _embedding_weight(module: nn.Module, a: Tensor, g: Tensor) -> Tensor:
    assert isinstance(module, nn.Embedding)
    g = _unscaled(module, g)
    dense = torch.zeros(len(g), *module.weight.shape, dtype=g.dtype, device=g.device)
    dense.scatter_add_(1, a[..., None].expand_as(g), g)
    if module.padding_idx is not None:
        dense[:, module.padding_idx] = 0
    return dense


RULES: dict[type[nn.Module], dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    nn.Linear: {"weight": _linear_weight, "bias": _sum_positions},
    Conv1D: {"weight": _conv1d_weight, "bias": _sum_positions},
    nn.LayerNorm: {"weight": _layer_norm_weight, "bias": _sum_positions},
    nn.Embedding: {"weight": _embedding_weight},
}
"""Per module, the gradients [examples, *shape] of its parameters from input a and output gradient
g, both [examples, …].
"""


def _rules(module: nn.Module) -> dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] | None:
    """Return the rules of a module, or None.

    It is None where the module has none, or computes something else than the module that it derives
    from.
    """
    for kind, rules in RULES.items():
        if isinstance(module, kind):
            same = type(module).forward is kind.forward
            return (
                rules if same or (kind is nn.Embedding and hasattr(module, "embed_scale")) else None
            )
    return None
