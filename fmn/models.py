"""Loading transformers models and tokenizers, safely and with errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmn import architectures
from fmn.checkpoint import Checkpoint, open_checkpoint
from fmn.errors import CheckpointError


def load_model(path: Path) -> Any:
    """Load the model of a directory, of the class that its configuration names, in evaluation mode on the CPU.

    Raises:
        CheckpointError: weights that are missing, incomplete, unsafe, or not those of the configuration.
    """
    import transformers

    checkpoint = open_checkpoint(path)  # refuses truncated and unsafe weights in one line
    names = checkpoint.config.get("architectures") or []
    named = getattr(transformers, str(names[0]), None) or _registered(checkpoint, str(names[0])) if names else None
    if not (isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)):
        raise CheckpointError(f"{path}/config.json names no model class that transformers has (architectures: {names})")
    kind: Any = named
    with _quiet():
        try:
            model, report = kind.from_pretrained(path, output_loading_info=True, ignore_mismatched_sizes=True)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(f"transformers cannot load {path} ({reason})") from error
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"{path}: {name} has shape {list(found)}, config.json makes it {list(expected)}; is it of this model?"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{path} has no weights for {missing[0]} and {len(missing) - 1} more; is config.json of this model?"
        )
    return model.eval()


def _registered(checkpoint: Checkpoint, name: str) -> Any:
    """Return a class that a package which is imported registered with transformers' ``AutoModelFor…``; None if it did not."""
    import transformers

    architectures.known()  # imports the packages that bring families
    auto = getattr(transformers, f"AutoModelFor{name.rpartition('For')[2]}", None)
    known = transformers.CONFIG_MAPPING
    config = known[checkpoint.model_type] if checkpoint.model_type in known else None  # noqa: SIM401 - no mapping's get
    found = auto._model_mapping.get(config, None) if auto and config else None
    return found if getattr(found, "__name__", None) == name else None


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a directory.

    Raises:
        CheckpointError: there is none, or a damaged one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # on damaged files transformers fails in any way, and tokenizers with bare exceptions
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"no tokenizer in {path} ({reason}); copy the parent's tokenizer files there") from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what transformers makes up where there are no files
        raise CheckpointError(f"no tokenizer in {path} (no vocabulary); copy the parent's tokenizer files there")
    return tokenizer


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
