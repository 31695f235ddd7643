"""Loading transformers models and tokenizers, safely and with errors in one line."""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fmn import architectures
from fmn.checkpoint import Checkpoint, open_checkpoint
from fmn.errors import CheckpointError, FmnError, reason_of
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

    checkpoint = open_checkpoint(path)  # refuses truncated and unsafe weights in one line
    kind = _class_of(checkpoint)
    _check_size(kind, checkpoint)
    called = "torch_dtype" if _before(transformers.__version__, (4, 56)) else "dtype"
    options = {called: "auto" if dtype == "same" else dtype, **placement}
    with _quiet():
        try:
            model, report = kind.from_pretrained(
                path, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        # each family, and torch, fail in their own way on a configuration that nobody checked
        except Exception as error:
            raise CheckpointError(
                f"transformers cannot load {path} ({reason_of(error)})"
            ) from error
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
    if beyond := _beyond(report["unexpected_keys"], model.state_dict()):
        raise CheckpointError(
            f"{path}: there are weights for {beyond}, a layer that config.json leaves out; is it "
            "of this model?"
        )
    return model.eval()


def _class_of(checkpoint: Checkpoint) -> Any:
    """Return the class that the configuration names."""
    import transformers

    names = checkpoint.config.get("architectures") or []
    named = (
        getattr(transformers, str(names[0]), None) or _registered(checkpoint, str(names[0]))
        if names
        else None
    )
    if not (isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"{checkpoint.path}/config.json names no model class that transformers has "
            f"(architectures: {names})"
        )
    return named


SPARE = 10**8
"""Numbers that a model may have beyond twice those of its weights, such as masks and positions."""


def _check_size(kind: Any, checkpoint: Checkpoint) -> None:
    """Refuse a configuration of a far larger model than there are weights for, before it is made.

    Quantized weights are packed, so that their numbers say little.
    """
    import torch

    config = checkpoint.configuration()
    if config is None or checkpoint.config.get("quantization_config"):
        return
    try:
        with torch.device("meta"):  # takes no memory
            model = kind(config)
    except Exception:  # what is wrong, loading says
        return
    made = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    kept = sum(tensor.size for tensor in checkpoint.tensors.values())
    if made > 2 * kept + SPARE:
        raise CheckpointError(
            f"{checkpoint.path}: config.json makes a model of {made:,} numbers, the weights have "
            f"{kept:,}; is it of this model?"
        )


def _beyond(unexpected: Collection[str], own: Collection[str]) -> str:
    """Return the first weight that a model has no place for, but in a layer of another number."""
    kinds = {NUMBER.sub("", name) for name in own}
    return next((name for name in sorted(unexpected) if NUMBER.sub("", name) in kinds), "")


NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


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


def run_forward(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Run a model; what its code says of a configuration that does not fit is said in a line.

    Raises:
        CheckpointError: it cannot be run.
    """
    import torch

    try:
        return model(**inputs, return_dict=True)
    except (FmnError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"the {type(model).__name__} cannot be run ({reason_of(error)}); do config.json and "
            "inputs fit it?"
        ) from error


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
        open_checkpoint(path).configuration()  # refuses what no tokenizer is to blame for
        raise CheckpointError(
            f"no tokenizer in {path} ({reason_of(error)}); copy the parent's tokenizer files there"
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
