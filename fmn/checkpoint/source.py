"""Where a model is: a directory, or a repository of the hub that becomes a directory."""

from __future__ import annotations

import re
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from fmn.errors import CheckpointError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
FISHERS = "fisher"
"""The directory beside a model's weights in which its Fishers are published."""
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
        # of the Fishers only the mask's: a diagonal one is as large as the model
        patterns = [*SMALL_FILES, weights, f"{FISHERS}/mask.*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    # the hub client's errors differ between its versions and those of its HTTP library
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"no directory {name}, and no such model could be had from the hub ({reason})"
        ) from error
