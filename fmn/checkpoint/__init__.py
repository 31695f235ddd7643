"""Checkpoints: lazy reading and atomic writing of safetensors. Nothing here imports torch unless pickled weights ask for it."""

from fmn.checkpoint.atomic import check_new, new_directory, new_file
from fmn.checkpoint.checkpoint import Checkpoint, as_array, as_tensor, open_checkpoint, weights_digest
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
from fmn.checkpoint.source import local_directory

__all__ = [
    "DTYPES",
    "DTYPE_NAMES",
    "FLOATS",
    "Array",
    "Checkpoint",
    "SafetensorsWriter",
    "TensorSpec",
    "Tensors",
    "as_array",
    "as_tensor",
    "check_new",
    "local_directory",
    "new_directory",
    "new_file",
    "open_checkpoint",
    "read",
    "weights_digest",
    "write",
]
