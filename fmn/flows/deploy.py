"""Deployments of the flow, as a prefect.yaml describes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fmn.errors import ParamsError
from fmn.flows.environment import has_server


def deploy(file: Path, name: str | None = None) -> None:
    """Register deployments with Prefect's server; exit as Prefect's own command does.

    Args:
        file: describes them; what it names is found from its directory.
        name: of one of them, None for all.

    Raises:
        ParamsError: There is no such file, or no server that outlives this command.
    """
    if not file.is_file():
        raise ParamsError(
            f"{file} is not there; it describes deployments, as the prefect.yaml of fmn's "
            "repository does"
        )
    if not has_server():
        raise ParamsError(
            "Prefect has no server that would keep deployments; start one with 'prefect server "
            "start', and say where it is: PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    folder = file.absolute().parent
    selection = ["--name", name] if name else ["--all"]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *selection]
    done = subprocess.run(
        [*command, "--prefect-file", file.name],
        cwd=folder,
        env=os.environ | {"PWD": str(folder)},  # which prefect.yaml asks for
        check=False,
    )
    sys.exit(done.returncode)
