"""The workbench of one run: where to compute, what to tell, and what is loaded once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fmn.checkpoint import Checkpoint
from fmn.errors import FmnError
from fmn.evaluation import EncodedCache


class Reporter(Protocol):
    """Shows a person how far long work is."""

    def track(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a bar for ``total`` units while the context lasts; call what it yields with units that are done."""

    def warn(self, line: str) -> None:
        """Show one line that a person should read."""


class Quiet:
    """Shows no bars; warnings go where Python's go."""

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None

    def warn(self, line: str) -> None:
        """Warn."""
        warnings.warn(line, stacklevel=2)


@dataclass
class Bench:
    """What the steps of one run share.

    Attributes:
        device: ``auto`` (a CUDA device if there is one), or a torch device.
        report: where progress goes.
        encoded: tokenised splits.
    """

    device: str = "auto"
    report: Reporter = field(default_factory=Quiet)
    encoded: EncodedCache = field(default_factory=EncodedCache)
    _models: dict[Path, Any] = field(default_factory=dict)
    _tokenizers: dict[Path, Any] = field(default_factory=dict)

    def torch_device(self) -> str:
        """Return the device to compute on.

        Raises:
            FmnError: there is no such device here.
        """
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise FmnError(f"device '{self.device}' cannot be used here; choose cpu, cuda, cuda:1, … or auto") from error
        return self.device

    def model(self, checkpoint: Checkpoint) -> Any:
        """Return the checkpoint's model on the device, loaded once."""
        from fmn.models import load_model

        if checkpoint.path not in self._models:
            self._models[checkpoint.path] = load_model(checkpoint.path).to(self.torch_device())
        return self._models[checkpoint.path]

    def tokenizer(self, checkpoint: Checkpoint) -> Any:
        """Return the checkpoint's tokenizer, loaded once."""
        from fmn.models import load_tokenizer

        if checkpoint.path not in self._tokenizers:
            self._tokenizers[checkpoint.path] = load_tokenizer(checkpoint.path)
        return self._tokenizers[checkpoint.path]
