"""Where a model is: a directory, or a repository of the hub that becomes a directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from fmn.errors import CheckpointError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
FISHERS = "fisher"
"""The directory beside a model's weights in which its Fishers are published."""
SMALL = "mask"
"""Fishers of this option come with their model; others may be as large as it is."""
SAFETENSORS, PICKLES = "model*.safetensors", "pytorch_model*.bin"


def local_directory(model: str | Path, revision: str | None = None) -> Path:
    """Return the directory of a model, downloading it from the hub if no such directory exists.

    Safetensors are preferred: pickled weights are downloaded only from a repository that has
    nothing else.

    Raises:
        CheckpointError: neither a directory nor something that the hub gives.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"{model} is a directory, which has no revision; leave out revision: {revision}"
            )
        return path
    if path.is_file():
        raise CheckpointError(
            f"{model} is a file; expected the directory that holds config.json and the weights"
        )
    name = str(model)
    if name.startswith(("/", ".", "~")) or not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"no directory {model}; expected a transformers directory (config.json and weights) or "
            "a hub id"
        )
    return _download(name, revision)


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Let a file of a model that cannot be read be a fault of that model, as any other is.

    Raises:
        CheckpointError: the system refused to read it.
    """
    try:
        yield
    except OSError as error:
        file = error.filename or "one of its files"
        raise CheckpointError(
            f"{model}: cannot read {file} ({error.strerror or error}); copy or download it again, "
            "or change who may read it"
        ) from error


def fetch_fishers(name: str, path: Path, option: str) -> None:
    """Download the statistics beside a model of the hub that did not come with it.

    Args:
        name: of the model, as the user wrote it; nothing lies elsewhere beside a directory.
        path: where the model is: of a hub's model, the snapshot of one commit.
        option: which statistic, as the files are called.

    Raises:
        CheckpointError: the hub refuses it. When it is away, what was downloaded before will do.
    """
    if option == SMALL or Path(name).expanduser() == path:
        return
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, revision=path.name, allow_patterns=[f"{FISHERS}/{option}.*"])
    except Exception as error:  # see below
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"what lies beside {name} could not be had from the hub ({reason})"
        ) from error


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        try:
            # unlike a listing, it fails at once when offline
            files = HfApi().model_info(name, revision=revision).siblings or []
        except Exception:  # offline, or the hub is away: what was downloaded before will do
            with suppress(LocalEntryNotFoundError):
                return Path(snapshot_download(name, revision=revision, local_files_only=True))
            raise
        weights = (
            SAFETENSORS if any(fnmatch(file.rfilename, SAFETENSORS) for file in files) else PICKLES
        )
        patterns = [*SMALL_FILES, weights, f"{FISHERS}/{SMALL}.*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    # the hub client's errors differ between its versions and those of its HTTP library
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"no directory {name}, and no such model could be had from the hub ({reason})"
        ) from error
