"""Measure which lines and branches of fmn the tests run, in all processes that they start.

``make coverage`` does; it prints a table of files, and leaves ``.coverage`` for other reports.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = """
[run]
branch = true
parallel = true
data_file = {folder}/.coverage
source_pkgs = fmn,flows
patch = subprocess
concurrency = thread,multiprocessing
sigterm = true
disable_warnings = module-not-measured,module-not-imported,no-data-collected
[paths]
fmn =
    {root}/fmn
    */fmn
flows =
    {root}/flows
    */flows
"""


def main(python: str, *arguments: str) -> None:
    """Run a program of Python, as ``python -m pytest``, and report on it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "coverage.ini"
        settings.write_text(SETTINGS.format(folder=folder, root=ROOT), encoding="utf-8")

        def coverage(*words: str) -> int:
            command = [python, "-m", "coverage", *words, f"--rcfile={settings}"]
            return subprocess.run(command, cwd=ROOT, check=False).returncode

        failed = subprocess.run(
            [python, "-m", "coverage", "run", f"--rcfile={settings}", *arguments],
            cwd=ROOT,
            check=False,
        ).returncode
        coverage("combine", "--quiet")
        coverage("report", "--show-missing", "--skip-covered")
        shutil.copy(Path(folder) / ".coverage", ROOT)
    sys.exit(failed)


if __name__ == "__main__":
    main(*sys.argv[1:])
