"""Loading transformers models and tokenizers, safely and with errors in one line."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fmn import architectures
from fmn.checkpoint import Checkpoint, open_checkpoint
from fmn.errors import CheckpointError
from fmn.extras import require
from fmn.recipe import Dtype
from fmn.scratch import scratch

SHARE = {"device": 0.7, "cpu": 0.9}
"""Of what is free, so much a device map may fill with weights; the rest of the device is for
activations and logits.
"""


def load_model(path: Path, dtype: Dtype = "same", **placement: Any) -> Any:
    """Load a directory's model, of its configuration's class, on the CPU in evaluation mode.

    Args:
        path: the directory.
        dtype: of the weights; ``same`` is the one that config.json names, or else the checkpoint's.
        placement: where else than on the CPU; see :func:`load_spread`.

    Raises:
        CheckpointError: weights that are missing, incomplete, unsafe, or not those of the
            configuration.
    """
    import transformers
    from safetensors import SafetensorError

    checkpoint = open_checkpoint(path)  # refuses truncated and unsafe weights in one line
    names = checkpoint.config.get("architectures") or []
    named = (
        getattr(transformers, str(names[0]), None) or _registered(checkpoint, str(names[0]))
        if names
        else None
    )
    if not (isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"{path}/config.json names no model class that transformers has (architectures: "
            f"{names})"
        )
    kind: Any = named
    called = "torch_dtype" if _before(transformers.__version__, (4, 56)) else "dtype"
    options = {called: "auto" if dtype == "same" else dtype, **placement}
    with _quiet():
        try:
            model, report = kind.from_pretrained(
                path, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(f"transformers cannot load {path} ({reason})") from error
    for name, shape, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"{path}: {name} has shape {list(shape)}, config.json makes it {list(expected)}; is it "
            "of this model?"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{path} has no weights for {missing[0]} and {len(missing) - 1} more; is config.json "
            "of this model?"
        )
    return model.eval()


def _registered(checkpoint: Checkpoint, name: str) -> Any:
    """Return a class that some package registered with transformers' ``AutoModelFor…``, or None."""
    import transformers

    architectures.known()  # imports the packages that bring families
    auto = getattr(transformers, f"AutoModelFor{name.rpartition('For')[2]}", None)
    known = transformers.CONFIG_MAPPING
    config = known[checkpoint.model_type] if checkpoint.model_type in known else None  # noqa: SIM401 - no mapping's get
    candidate = auto._model_mapping.get(config, None) if auto and config else None
    return candidate if getattr(candidate, "__name__", None) == name else None


def load_spread(path: Path, dtype: Dtype, device: str, sizes: Mapping[str, str]) -> Any:
    """Load a model of which some layers wait in the CPU's memory or on disk, not on the device.

    Args:
        path: the directory.
        dtype: of the weights; ``same`` is the checkpoint's.
        device: that computes.
        sizes: how much memory weights may take of the ``device`` and the ``cpu``; without one, a
            ``SHARE`` of what is free.

    Raises:
        CheckpointError: see :func:`load_model`.
        FmnError: accelerate is not installed.
    """
    require("large", "a device map")
    import torch
    from accelerate.utils import get_max_memory

    target, free = torch.device(device), get_max_memory()
    place = target.type if target.type in ("cpu", "mps") else target.index or 0
    limits: dict[str | int, str | int] = {}
    # the device second: where it is the CPU, what is said of the device holds
    for kind, where in (("cpu", "cpu"), ("device", place)):
        if where not in limits or kind in sizes:
            limits[where] = sizes.get(kind, int(free[where] * SHARE[kind]))
    # the device first, for they are filled in this order
    limits = {where: limits[where] for where in sorted(limits, key=lambda where: where == "cpu")}
    stack = ExitStack()
    folder = stack.enter_context(scratch())
    model = load_model(
        path, dtype, device_map="sequential", max_memory=limits, offload_folder=str(folder)
    )
    weakref.finalize(model, stack.close)
    return model


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a directory.

    Raises:
        CheckpointError: there is none, or a damaged one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    # on damaged files transformers fails in any way, and tokenizers with bare exceptions
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"no tokenizer in {path} ({reason}); copy the parent's tokenizer files there"
        ) from error
    # special tokens alone are what transformers makes up where there are no files
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise CheckpointError(
            f"no tokenizer in {path} (no vocabulary); copy the parent's tokenizer files there"
        )
    return tokenizer


def _before(version: str, release: tuple[int, int]) -> bool:
    return tuple(int(part) for part in version.split(".")[:2]) < release


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a bar and a table for each model; what matters is raised."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    shown = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
