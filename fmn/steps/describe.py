"""Records and stores in a person's words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fmn.errors import FmnError
from fmn.store import Record


def in_short(record: Record) -> str:
    """Say in a line what a record is the result of, and the result if it is small."""
    names, scores = record.names, record.value.get("scores", {})
    what = f"{names.get('name') or names.get('model', '')}"
    if "models" in names:
        what = f"{' + '.join(names['models'])} by {names['method']}"
    elif record.kind == "fisher":
        what = f"{record.inputs['of']} of {what}"
    said = ", ".join(f"{name} {100 * next(iter(metrics.values())):.2f}" for name, metrics in scores.items())
    return f"{what}: {said}" if said else what


def how_to_derive(record: Record | None) -> str:
    """Say how a result whose object is gone is had again."""
    if record is None:
        return "run the flow again, it computes what the record was about"
    if record.kind == "fisher":
        of, settings = record.inputs["of"].removesuffix("-fisher"), record.inputs["settings"]
        names = record.names
        return (
            f"a run whose zoo has {names['model']} repairs it, and so does: fmn fisher {names['model']} --task {names['task']} "
            f"--data {names['data']} --kind {of} --samples {settings['samples']} --store … --out …"
        )
    return f"any run that keeps {in_short(record)} derives it again from its models and Fishers"


def dvc_remote_settings(url: str, name: str) -> dict[str, str]:
    """Return what ``dvc config`` is to be told: the store as the default remote; credentials stay in the environment."""
    settings = {"core.remote": name, f"remote.{name}.url": url if "://" in url else str(Path(url).absolute())}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and url.startswith("s3://"):
        settings[f"remote.{name}.endpointurl"] = endpoint
    return settings


def write_dvc_remote(repository: Path, settings: dict[str, str]) -> Path:
    """Write settings into a repository's DVC configuration; return its file.

    Raises:
        FmnError: no DVC repository.
    """
    config = repository / ".dvc" / "config"
    if not config.parent.is_dir():
        raise FmnError(f"no DVC repository in {repository.absolute()}; run 'dvc init' first")
    for key, value in settings.items():
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "config", key, value], cwd=repository, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FmnError(f"dvc config {key} failed: {' '.join(done.stderr.split())}")
    return config
