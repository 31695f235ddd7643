"""Optional parts: what each extra of the distribution brings, and what is said where it lacks."""

from __future__ import annotations

from importlib.util import find_spec

from fmn import DISTRIBUTION
from fmn.errors import FmnError

EXTRAS = {
    "store": ("dvc_data", "dvc_objects", "fsspec", "s3fs"),
    "flow": ("prefect", "prefect_dask", "dask", "distributed", "psutil"),
    "report": ("vl_convert",),
    "dvc": ("dvc",),
    "large": ("accelerate",),
}
"""Names under which fmn imports what an extra brings."""


def require(extra: str, what: str) -> None:
    """Check that the packages of an extra are installed; none of them is imported.

    Args:
        extra: one of those in pyproject.toml.
        what: needs it; begins the message.

    Raises:
        FmnError: One is not; the message says what to install.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise FmnError(
                f"{what} needs {package}, which is not installed; install it with: pip install "
                f"'{DISTRIBUTION}[{extra}]'"
            )
