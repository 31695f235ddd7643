import csv

import pytest

from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.world import LABELS

BESIDE = ("paper-scores", "paper-gains", "paper-seconds", "paper-speed-up", "paper-setup")
TABLES = ("pairs", "aggregate", "times", "sizes", *BESIDE, "scores")


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    params = world.params(folder / "params.yaml")
    arguments = (
        "reproduce",
        "--params",
        params,
        "--samples",
        "8, all",
        "--device",
        "cpu",
        "--out",
        folder / "deep" / "out",
    )
    return folder, arguments, succeeded(fmn(*arguments))


def test_writes_every_form(ran):
    folder, _, _ = ran
    written = {path.name for path in (folder / "deep" / "out").iterdir()}
    assert written == {
        "tables.md",
        "tables.tex",
        "reproduction.svg",
        "reproduction.png",
        *(f"{name}.csv" for name in TABLES),
    }
    with (folder / "deep" / "out" / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pair"] for row in rows] == ["sst2 + rte", "sst2 + mnli", "rte + mnli", "mean"]
    assert {
        "averaging",
        "mask Fisher 8",
        "published code 8",
        "full Fisher 8",
        "full Fisher all",
    } < rows[0].keys()
    for row in rows:
        for value in list(row.values())[1:]:
            assert f" {value} " in (folder / "deep" / "out" / "tables.md").read_text()


def test_says_what_there_is_to_do_and_what_was_done(ran):
    _, _, result = ran
    lines = result.stderr.splitlines()
    assert lines[0].startswith(
        "in the store: 0 of 18 Fishers, 0 of 25 merges, 0 of 28 evaluations; the rest is computed"
    )
    assert any(line.startswith("full Fisher all: Fishers: 3 done in") for line in lines)
    assert (
        result.stdout.splitlines()[-1]
        == "computed 18 Fishers, 25 merges, 28 evaluations, took nothing from the store"
    )
    assert "Normalised score of every pair, %" in result.stdout
    assert "\x1b" not in result.output


def test_again_computes_nothing_and_writes_the_same(ran):
    folder, arguments, first = ran
    before = {path.name: path.read_bytes() for path in (folder / "deep" / "out").iterdir()}
    again = succeeded(fmn(*arguments))
    assert {path.name: path.read_bytes() for path in (folder / "deep" / "out").iterdir()} == before
    assert again.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]
    assert again.stdout.splitlines()[-1].startswith("computed nothing, took 18 Fishers")


def test_tables_of_what_is_stored(ran, monkeypatch, tmp_path):
    _, arguments, _ = ran
    monkeypatch.setattr(
        "fmn.models.load_model", lambda *a, **k: pytest.fail("expensive work started")
    )
    part = (
        *arguments[:3],
        "--samples",
        "8,24",
        "--methods",
        "average,mask-fisher",
        "--sizes",
        "2",
        "--stored",
    )
    result = succeeded(fmn(*part, "--out", tmp_path / "part"))
    assert "mask Fisher 8" in result.stdout
    assert "mask Fisher 24" not in result.stdout
    assert "computed" not in result.stdout


def test_the_commands_of_the_page(world, tmp_path, monkeypatch):
    world.params(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    commands = """
        fmn reproduce --params params.yaml --samples 128 --sizes 2
        fmn reproduce --params params.yaml
        fmn reproduce --params params.yaml --stored
        fmn reproduce --params params.yaml --sizes none
    """
    part, whole, stored, times = (
        succeeded(fmn(*line.split()[1:])).stdout for line in commands.strip().splitlines()
    )
    assert "computed 9 Fishers, 12 merges, 15 evaluations, took nothing" in part
    assert "computed 4 merges, 4 evaluations, took 9 Fishers" in whole
    assert stored.splitlines() == whole.splitlines()[:-1]
    assert times.splitlines()[0].startswith("Seconds of each task's Fisher")
    assert times.splitlines()[-1] == "computed nothing, took 9 Fishers from the store"
    written = {path.name for path in (tmp_path / "reproduction").iterdir()}
    assert written == {
        "tables.md",
        "tables.tex",
        "times.csv",
        "paper-seconds.csv",
        "paper-speed-up.csv",
        "paper-setup.csv",
    }  # nothing of the runs before


def test_the_papers_figures_are_printed_beside(ran):
    folder, _, result = ran
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    with (folder / "deep" / "out" / "paper-scores.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][:7] == [
        "method",
        "examples",
        "here",
        "bert-tiny",
        "bert-base",
        "bert-large",
        "roberta",
    ]
    assert len(rows) == 1 + 1 + 3 * 3
    for row in rows[1:]:
        assert " ".join(cell for cell in row if cell) in lines
    for title in ("Beside table 1", "Beside tables 2 and 3", "What differs in the set-up"):
        assert any(line.startswith(title) for line in lines)


def test_nothing_is_stored_yet(world, tmp_path):
    params = world.params(tmp_path / "params.yaml")
    out = tmp_path / "out"
    refuse_line = refused_line(fmn("reproduce", "--params", params, "--stored", "--out", out))
    assert "has nothing of this yet; run it without --stored" in refuse_line
    assert not out.exists()


def refused_line(result):
    """Return the one line after what there is to do."""
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("in the store: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "average, avrage"), "unknown method 'avrage'; did you mean 'average'"),
        (
            ("--methods", "average", "--sizes", "none"),
            "has nothing of this yet; these methods need no Fishers",
        ),
        (("--methods", "avrage"), "unknown method 'avrage'; did you mean 'average'"),
        (("--samples", "0"), "samples 0: expected 1 or more examples"),
        (
            ("--samples", "128,many"),
            "--samples 128,many: expected numbers with commas between them",
        ),
        (("--samples", ""), "--samples : expected numbers"),
        (("--sizes", "2;3"), "--sizes 2;3: expected numbers"),
        (("--sizes", "7"), f"sizes 7: expected numbers from 2 to {len(LABELS)}"),
        (("--device", "tpu"), "device 'tpu' cannot be used here"),
        (("--params", "nowhere.yaml"), "cannot read nowhere.yaml"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, message, world, tmp_path, nothing_runs):
    params = world.params(tmp_path / "params.yaml")
    line = refused_line(fmn("reproduce", "--params", params, "--out", tmp_path / "out", *arguments))
    assert message in line
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store").exists()


def test_an_output_that_is_a_file(world, tmp_path, nothing_runs):
    (tmp_path / "out").write_text("precious")
    result = fmn(
        "reproduce", "--params", world.params(tmp_path / "params.yaml"), "--out", tmp_path / "out"
    )
    refused(result, "out is not a directory; choose another output")
    assert (tmp_path / "out").read_text() == "precious"


def test_the_quality_protocol(world, tmp_path, monkeypatch):
    world.params(tmp_path / "params.yaml", refit={"samples": 8})
    monkeypatch.chdir(tmp_path)
    command = [
        "reproduce",
        "--protocol",
        "quality",
        "--methods",
        "average,mask-fisher",
        "--samples",
        "16,8",
    ]
    nothing = fmn(*command, "--stored")
    assert nothing.exit_code == 1
    assert "has nothing of this yet; run it without --stored" in nothing.stderr
    result = succeeded(fmn(*command))
    lines = result.stderr.splitlines()
    assert lines[0] == "in the store: 0 of 19 merges are measured"
    assert [line for line in lines if line.endswith(" examples")] == [
        "all 3 models, 16 examples",
        "pairs, 16 examples",
        "all 3 models, 8 examples",
    ]
    assert "19 merges" in result.stdout.splitlines()[-1]
    tables = ("all", "pairs", "sizes", "examples", "quality")
    written = {path.name: path.read_bytes() for path in (tmp_path / "quality").iterdir()}
    assert written.keys() == {
        "tables.md",
        "tables.tex",
        "quality.svg",
        "quality.png",
        *(f"{name}.csv" for name in tables),
    }
    with (tmp_path / "quality" / "quality.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 19
    stored = succeeded(fmn(*command, "--stored"))
    assert stored.stderr.splitlines() == ["in the store: 19 of 19 merges are measured"]
    assert stored.stdout.splitlines() == result.stdout.splitlines()[:-1]
    assert {p.name: p.read_bytes() for p in (tmp_path / "quality").iterdir()} == written


def test_the_commands_of_the_page_on_quality(world, tmp_path, monkeypatch):
    world.params(tmp_path / "params.yaml", evaluate={"limit": 5})
    monkeypatch.chdir(tmp_path)
    commands = """
        fmn reproduce --protocol quality --sizes 2 --samples 128
        fmn reproduce --protocol quality
        fmn reproduce --protocol quality --stored
    """
    pairs, whole, stored = (
        succeeded(fmn(*line.split()[1:])) for line in commands.strip().splitlines()
    )
    assert pairs.stdout.startswith("Pairs, 128 examples of a task")
    assert whole.stdout.startswith("All 3 models merged, 128 examples of a task")
    assert pairs.stdout.partition("quality: ")[0] in whole.stdout  # they were there already
    assert stored.stdout.splitlines() == whole.stdout.splitlines()[:-1]
