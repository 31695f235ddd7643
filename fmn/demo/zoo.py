"""Build the demo's zoo on disk: four tasks, a parent, and a fine-tune of the parent for each task.

DEST/zoo.json                           which zoo this is
DEST/data/<task>/<split>.parquet        GLUE's columns and label numbers
DEST/parent, DEST/<task>                directories as transformers writes them
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from fmn.checkpoint import new_directory
from fmn.demo.settings import Settings
from fmn.demo.tasks import TASKS
from fmn.errors import OutputError
from fmn.reading import read_json

STAMP = "zoo.json"
NAMES = (*(f"data/{name}" for name in TASKS), "parent", *TASKS)
"""The directories of a zoo, in the order of building."""


def build_zoo(dest: Path, *, seed: int = 0, progress: Progress | None = None) -> None:
    """Build a zoo of four tiny fine-tunes of one tiny parent, in a minute or two on two cores.

    The same seed gives the same bytes on the same machine. Each piece appears whole or not at all,
    so a build that was interrupted goes on where it stopped, and one that was finished returns at
    once.

    Args:
        dest: The directory to fill: new, empty, or the zoo of this seed.
        seed: Decides the text, the tasks and the models.
        progress: Where to show bars and say what was done; nowhere by default.

    Raises:
        OutputError: If ``dest`` holds something else, or cannot be written to.
    """
    build(Path(dest), Settings(seed=seed), progress or Progress(console=Console(quiet=True)))


def build(dest: Path, settings: Settings, progress: Progress) -> None:
    """Build the zoo that these settings describe; see :func:`build_zoo`."""
    try:
        _claim(dest, settings)
        missing = [name for name in NAMES if not (dest / name).is_dir()]
        if not missing:
            _say(progress, f"{dest} already holds this zoo (seed {settings.seed})")
            return
        from fmn.demo.pieces import pieces  # who has the zoo does not wait for torch

        fill = pieces(dest, settings, progress)
        for name in missing:
            with new_directory(dest / name) as directory:
                fill[name](directory)
            _say(progress, f"built {dest / name}")
    except OSError as error:
        raise OutputError(
            f"cannot write the demo's zoo to {dest}: {error}; choose another directory"
        ) from error


def _claim(dest: Path, settings: Settings) -> None:
    """Stamp a new or empty directory with the settings, or check that it bears their stamp."""
    stamp = {"seed": settings.seed, "digest": settings.digest()}
    path = dest / STAMP
    if path.is_file():
        try:
            same = read_json(path.read_bytes(), str(path)) == stamp
        except ValueError:
            same = False
        if not same:
            raise OutputError(
                f"{dest} holds another zoo (see {path}); remove it or choose another directory"
            )
    elif dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise OutputError(
            f"{dest} exists and is not a zoo of the demo; choose a new or empty directory"
        )
    else:
        dest.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def _say(progress: Progress, line: str) -> None:
    progress.console.print(escape(line), soft_wrap=True, highlight=False)
