"""Records and stores in a person's words."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fmn.errors import FmnError
from fmn.extras import require
from fmn.recipe import FisherSettings
from fmn.statistics import get_statistic, statistic_names, title_of
from fmn.store import Record
from fmn.store.contents import KINDS


def in_short(record: Record) -> str:
    """Say in a line what a record is the result of, and the result if it is small."""
    if record.kind not in KINDS:
        return "of another version of fmn"
    names, scores = record.names, record.value.get("scores", {})
    what = f"{names.get('name') or names.get('model', '')}"
    if "models" in names:
        what = f"{' + '.join(names['models'])} by {names['method']}"
    elif record.kind == "fisher":
        what = f"{title_of(record.inputs['of'])} of {what}"
    scored = ", ".join(
        f"{name} {100 * next(iter(metrics.values())):.2f}" for name, metrics in scores.items()
    )
    return f"{what}: {scored}" if scored else what


def how_to_derive(record: Record | None) -> str:
    """Say how a result whose object is gone is had again."""
    if record is None:
        return "run the flow again, it computes what the record was about"
    if record.kind == "fisher":
        names, command = record.names, shlex.join(_fisher_command(record))
        return (
            f"a run whose zoo has {names['model']} repairs it, and so does: {command} --store … "
            "--out …"
        )
    return f"any run that keeps {in_short(record)} derives it again from its models and Fishers"


def _fisher_command(record: Record) -> list[str]:
    """Return the command that computes a Fisher again.

    It says what the user said, where that is not the default.
    """
    names, settings, statistic = record.names, record.inputs["settings"], record.inputs["of"]
    known = statistic in statistic_names()
    option = get_statistic(statistic).option if known else statistic
    labels = get_statistic(statistic).labels if known else None
    command = ["fmn", "fisher", names["model"], "--task", names["task"]]
    command += ["--data", names["data"], "--kind", option]
    usual = FisherSettings(labels=labels).model_dump(mode="json") | {"samples": None}
    for name, value in settings.items():
        if name == "seed" and value is None:
            command += ["--no-shuffle"]
        elif value != usual.get(name, value):  # what is not among them, no option says
            option = f"--{name.replace('_', '-')}"
            for each in value if isinstance(value, list) else [value]:
                command += [option] if each is True else [option, str(each)]
    return command


def dvc_remote_settings(url: str, name: str) -> dict[str, str]:
    """Return what ``dvc config`` is to hold, the store as the default remote.

    Credentials stay in the environment.
    """
    is_local = "://" not in url or url.startswith("file://")
    place = str(Path(url.removeprefix("file://")).expanduser().absolute()) if is_local else url
    settings = {"core.remote": name, f"remote.{name}.url": place}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and url.startswith("s3://"):
        settings[f"remote.{name}.endpointurl"] = endpoint
    return settings


def write_dvc_remote(folder: Path, settings: dict[str, str]) -> Path:
    """Write settings into the DVC configuration of the repository that a directory is in.

    Return its file.

    Raises:
        FmnError: no DVC repository, or the extra ``dvc`` is not installed.
    """
    here = folder.absolute()
    repository = next((place for place in (here, *here.parents) if (place / ".dvc").is_dir()), None)
    if repository is None:
        raise FmnError(f"no DVC repository in {here}; run 'dvc init' first")
    require("dvc", "writing DVC's configuration")
    config = (folder if repository == here else repository) / ".dvc" / "config"
    from dvc.config import Config, ConfigError  # type: ignore[import-untyped]

    try:
        with Config(str(repository / ".dvc")).edit("repo") as contents:
            name = contents["core"]["remote"] = settings["core.remote"]
            options = {
                key.removeprefix(f"remote.{name}."): value
                for key, value in settings.items()
                if key != "core.remote"
            }
            # what it says of another place is not about this one
            before = contents["remote"].get(name, {})
            contents["remote"][name] = {
                **(before if before.get("url") == options["url"] else {}),
                **options,
            }
    except (ConfigError, OSError) as error:
        raise FmnError(f"cannot write {config}: {' '.join(str(error).split())}") from error
    return config
