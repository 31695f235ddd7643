"""What an embedded server's database remembers: the last runs, whole, and what is not fmn's."""

import sqlite3
import time
from contextlib import closing

import pytest

from fmn.flows.history import KEPT, forget_old_runs

ROWS = 400

FILL = """
insert into flow (id, name) values ('ours', 'merge-zoo'), ('theirs', 'etl');
insert into flow_run (id, name, flow_id, created)
    select flow.id || n, 'run', flow.id, datetime('2026-01-01', n || ' hours')
    from flow, (with recursive number(n) as (select 1 union all select n + 1 from number
                where n < {runs}) select n from number);
insert into flow_run_state (flow_run_id, type, name) select id, 'COMPLETED', 'x' from flow_run;
insert into task_run (id, name, flow_run_id, task_key, dynamic_key)
    select id || '-task', 'task', id, 'key', id from flow_run;
insert into task_run_state (task_run_id, type, name) select id, 'COMPLETED', 'x' from task_run;
insert into log (flow_run_id, name, level, message, timestamp)
    select id, 'log', 20, hex(randomblob(2000)), created from flow_run;
insert into artifact (id, flow_run_id, key, data)
    select id || '-a', id, 'key', '1' from flow_run;
insert into artifact_collection (key, latest_id)
    values ('ours', 'ours1-a'), ('last', 'ours{runs}-a');
insert into events (occurred, event, resource_id, resource, payload, received, recorded)
    select created, 'x', id, '1', '1', created, created from flow_run where flow_id = 'ours';
"""


@pytest.fixture
def file(prefect_database, tmp_path):
    """That of many runs, of fmn and of others."""
    file = tmp_path / "prefect.db"
    with (
        closing(sqlite3.connect(prefect_database)) as source,
        closing(sqlite3.connect(file)) as database,
    ):
        source.backup(database)
        database.executescript(FILL.format(runs=ROWS))
    return file


def ids(file, table, column="flow_run_id"):
    with closing(sqlite3.connect(file)) as database:
        return {name for (name,) in database.execute(f"select {column} from {table}")}


def test_the_last_runs_stay_whole_of_the_others_nothing_and_what_is_not_of_fmn_stays(file):
    size = file.stat().st_size
    forget_old_runs(file)
    ours = {f"ours{number}" for number in range(ROWS - KEPT + 1, ROWS + 1)}
    theirs = {f"theirs{number}" for number in range(1, ROWS + 1)}
    assert ids(file, "flow_run", "id") == ours | theirs
    for table in ("flow_run_state", "task_run", "log", "artifact"):
        assert ids(file, table) == ours | theirs, table
    tasks = {f"{name}-task" for name in ours | theirs}
    assert ids(file, "task_run_state", "task_run_id") == tasks
    assert ids(file, "artifact_collection", "key") == {"last"}
    assert file.stat().st_size < size


def test_few_runs_and_files_that_are_no_database_stay_as_they_are(file, tmp_path):
    before = file.read_bytes()
    forget_old_runs(file, kept=ROWS)
    assert file.read_bytes() == before
    other = tmp_path / "other.db"
    forget_old_runs(other)
    assert not other.exists()
    other.write_text("no database" * 100)
    forget_old_runs(other)
    assert other.read_text() == "no database" * 100


def test_a_file_to_which_runs_are_added_and_forgotten_stops_growing(file):
    sizes = []
    for turn in range(6):
        forget_old_runs(file, kept=0 if turn else KEPT)
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("delete from flow_run where flow_id = 'theirs'")
            for number in range(50):
                name = f"{turn}-{number}"
                database.execute(
                    "insert into flow_run (id, name, flow_id) values (?, 'x', 'ours')", [name]
                )
                database.execute(
                    "insert into log (flow_run_id, name, level, message, timestamp) "
                    "values (?, 'x', 20, hex(randomblob(5000)), ?)",
                    [name, time.time()],
                )
        sizes.append(file.stat().st_size)
    assert max(sizes[2:]) <= sizes[1] * 1.1, sizes
