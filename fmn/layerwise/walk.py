"""Forward passes in lock step: a model's own code, stopped where a map or a norm has spoken.

Each pass is a greenlet, so that no layer is written again: any family's forward pass runs as it
is, and hooks hand control back at each module that is to be settled, before anything reads what it
said. All passes of all models are then at the same place, and go on with what they are given.

What a linear map says is a tensor that nobody has read yet. The first reader decides: if something
is added to it, it goes into a residual stream, and that is the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn
from torch.utils._pytree import tree_map

ADDITIONS = {"add", "__add__", "__radd__", "add_", "__iadd__"}
"""Names of torch's functions by which a map's output goes into a residual stream."""

GLANCES = {"__get__", "size", "dim", "ndimension", "numel", "__len__", "is_floating_point"}
"""Names of those that look at a tensor's form only."""


@dataclass(frozen=True)
class Stop:
    """Where a pass stands: a module has said something that nothing has read yet.

    Attributes:
        name: of the module.
        module: it.
        inputs: what it read, [examples, positions, channels].
        outputs: what it said.
        stream: what that is to be added to; None where it is read by itself.
    """

    name: str
    module: nn.Module
    inputs: Tensor
    outputs: Tensor
    stream: Tensor | None = None


class Pass:
    """One forward pass of a model that stops at modules.

    Attributes:
        stop: where it stands; None when it has ended.
        outcome: what the model returned, when it has ended.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        """Begin; the pass goes on to its first stop.

        Args:
            run: the forward pass of a model whose modules have hooks, see :func:`stopping`.
        """
        self.stop: Stop | None = None
        self.outcome: Any = None
        self.seen: set[str] = set()
        self._home = getcurrent()
        self._greenlet = greenlet(self._run)
        self._run_model = run
        self._switch(None)

    def go(self, outputs: Tensor | None = None) -> None:
        """Go on to the next stop.

        Args:
            outputs: in place of what the module said; None for that.
        """
        self._switch(outputs)

    def halt(self, stop: Stop) -> Tensor | None:
        """Hand control back; return what is to be read in place of what the module said."""
        self.stop = stop
        given: Tensor | None = self._home.switch()
        return given

    def _run(self, _: None) -> None:
        self.outcome = self._run_model()
        self.stop = None

    def _switch(self, outputs: Tensor | None) -> None:
        _RUNNING.append(self)
        try:
            self._greenlet.switch(outputs)
        finally:
            _RUNNING.pop()


_RUNNING: list[Pass] = []
"""The pass that runs just now, if one does."""


class _Unread(Tensor):
    """What a map said, until somebody reads it."""

    owner: Pass
    found: Stop
    settled: Tensor | None

    @classmethod
    def of(cls, owner: Pass, stop: Stop) -> _Unread:
        unread: _Unread = Tensor._make_subclass(cls, stop.outputs)
        unread.owner, unread.found, unread.settled = owner, stop, None
        return unread

    def settle(self, stream: Tensor | None = None) -> Tensor:
        if self.settled is None:
            stop = self.found
            given = self.owner.halt(Stop(stop.name, stop.module, stop.inputs, stop.outputs, stream))
            self.settled = stop.outputs if given is None else given
        return self.settled

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in GLANCES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if name == "dropout" and not (kwargs or {}).get("training", False):
            return args[0]
        if name in ADDITIONS:
            _meet(*args[:2])
        settled = tree_map(
            lambda each: each.settle() if isinstance(each, cls) else each,
            (args, dict(kwargs or {})),
        )
        return func(*settled[0], **settled[1])


def _meet(one: Any, other: Any) -> None:
    """Settle what is added to a stream; of two maps whose outputs are added, neither is one."""
    for said, stream in ((one, other), (other, one)):
        if (
            isinstance(said, _Unread)
            and isinstance(stream, Tensor)
            and not isinstance(stream, _Unread)
            and said.shape == stream.shape
        ):
            said.settle(stream)


@contextmanager
def stopping(maps: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let passes stop at these modules of a model while the context lasts.

    A module that runs again in a pass (DeBERTa's, on relative positions) does not stop it again.

    Args:
        maps: by name, those that may write into a residual stream.
        others: by name, those that do not.
    """
    handles = [
        module.register_forward_hook(_hook(name, unread=unread))
        for named, unread in ((maps, True), (others, False))
        for name, module in named.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, *, unread: bool) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> Tensor | None:
        running = _RUNNING[-1] if _RUNNING else None
        if running is None or name in running.seen:
            return None
        running.seen.add(name)
        stop = Stop(name, module, inputs[0], outputs)
        return _Unread.of(running, stop) if unread else running.halt(stop)

    return hook
