"""Checkpoints: lazy reading and atomic writing of safetensors.

Nothing here imports torch unless pickled weights ask for it.
"""

from fmn.checkpoint.atomic import check_new, new_directory, new_file
from fmn.checkpoint.checkpoint import (
    Checkpoint,
    as_array,
    as_tensor,
    open_checkpoint,
    setting_of,
    weights_digest,
)
from fmn.checkpoint.hub import HubRepo, check_token, files_to_send, send, send_file
from fmn.checkpoint.safetensors_file import (
    DTYPE_NAMES,
    DTYPES,
    FLOATS,
    Array,
    SafetensorsWriter,
    Tensors,
    TensorSpec,
    read,
    write,
)
from fmn.checkpoint.source import FISHERS, fetch_fishers, local_directory, readable

__all__ = [
    "DTYPES",
    "DTYPE_NAMES",
    "FISHERS",
    "FLOATS",
    "Array",
    "Checkpoint",
    "HubRepo",
    "SafetensorsWriter",
    "TensorSpec",
    "Tensors",
    "as_array",
    "as_tensor",
    "check_new",
    "check_token",
    "fetch_fishers",
    "files_to_send",
    "local_directory",
    "new_directory",
    "new_file",
    "open_checkpoint",
    "read",
    "readable",
    "send",
    "send_file",
    "setting_of",
    "weights_digest",
    "write",
]
