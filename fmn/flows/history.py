"""What an embedded server remembers of runs: the last ones, so that its database stays small."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

KEPT = 20
"""Flow runs that are remembered; one of 35 tasks takes 0.2 MB."""

FLOW = "merge-zoo"

OLD = """
create temp table old as select flow_run.id from flow_run join flow on flow.id = flow_run.flow_id
    where flow.name = ? order by flow_run.created desc limit -1 offset ?
"""

FORGET = (
    "delete from log where flow_run_id in (select id from old)",
    "delete from artifact where flow_run_id in (select id from old)",
    "delete from artifact_collection where latest_id not in (select id from artifact)",
    # with it go its states, its task runs and their states
    "delete from flow_run where id in (select id from old)",
    "delete from events where occurred < (select min(created) from flow_run)",
    "delete from event_resources where event_id not in (select id from events)",
)


def forget_old_runs(file: Path, kept: int = KEPT) -> None:
    """Forget all but the last runs of fmn's flow; a database of another form stays as it is.

    Args:
        file: Prefect's database, in a home that is fmn's own.
        kept: runs that are remembered.
    """
    if not file.is_file():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(file, timeout=5)) as database:
        database.execute("pragma foreign_keys = on")
        with database:
            database.execute(OLD, (FLOW, kept))
            if not database.execute("select count(*) from old").fetchone()[0]:
                return
            for statement in FORGET:
                database.execute(statement)
        (pages,), (free,) = (
            database.execute(f"pragma {name}").fetchone()
            for name in ("page_count", "freelist_count")
        )
        if free > pages / 4:
            database.execute("vacuum")
