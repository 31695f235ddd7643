"""What is sent to the hub, and what is said when the hub does not take it.

No server of the hub's upload protocol is on the registry. The real client talks to the server of
:mod:`tests.hub` on the loopback, which keeps what it was given. So the tests show what fmn sends,
not what the hub makes of it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForSequenceClassification

from fmn.checkpoint import HubRepo, files_to_send, open_checkpoint, send, send_file
from fmn.errors import CheckpointError, OutputError, ParamsError
from fmn.merging import get_rule, make_plan, write_merged
from fmn.recipe import ModelEntry
from fmn.steps.member import as_source
from fmn.store import Memo
from tests.checkpoint.conftest import Refused, python
from tests.families import tiny
from tests.hub import TOKEN, Hub

REPO = HubRepo("team/glue")


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A real merge of two tiny models in several shards, with a card."""
    sources = []
    for number, task in enumerate(("rte", "sst2")):
        folder = tmp_path / "zoo" / task
        tiny("bert", seed=number, num_labels=number + 2, dtype=torch.float32).save_pretrained(
            folder
        )
        sources.append(
            as_source(ModelEntry(model=str(folder), task=task), open_checkpoint(folder), Memo())
        )
    dest = tmp_path / "merged"
    write_merged(
        make_plan(sources, get_rule("average"), {}, "same"),
        dest,
        "method: average\n",
        shard_bytes=8000,
    )
    (dest / "README.md").write_text("---\ntags: [merge]\n---\n# A merge\n")
    return dest


@pytest.mark.parametrize(
    ("address", "repo"),
    [
        ("hf://org/name", HubRepo("org/name")),
        ("hf://a/b", HubRepo("a/b")),
        ("hf://Some-One/bert_base.v1-2", HubRepo("Some-One/bert_base.v1-2")),
        ("hf://org/name@v1.0", HubRepo("org/name", "v1.0")),
        ("hf://org/name@feature/rte-2", HubRepo("org/name", "feature/rte-2")),
    ],
)
def test_an_address(address: str, repo: HubRepo) -> None:
    assert HubRepo.parse(address) == repo
    assert str(repo) == address


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "org/name",
            "hf:org/name",
            "s3://org/name",
            "https://huggingface.co/org/name",
            "HF://org/name",
            " hf://org/name",
        ),
        *(
            "hf://name",
            "hf:///name",
            "hf://org/",
            "hf://org/name/",
            "hf://org/name/file",
            "hf://datasets/org/name",
        ),
        *(
            "hf://../name",
            "hf://org/..",
            "hf://org/a..b",
            "hf://org/a--b",
            "hf://org/-a",
            "hf://org/a.",
            "hf://org/a.git",
        ),
        *(
            "hf://org/na me",
            "hf://org/na%20me",
            "hf://org/näme",
            "hf://org/name\n",
            "hf://org/" + "n" * 96,
        ),
        *(
            "hf://org/name@",
            "hf://org/name@-v",
            "hf://org/name@a b",
            "hf://org/name@a/../b",
            "hf://org/name@a@b",
            "hf://org/name@/a",
        ),
    ],
)
def test_no_address(address: str, refused: Refused) -> None:
    line = refused(ParamsError, HubRepo.parse, address)
    assert line == (
        f"{address!r} is not a repository of the hub; expected hf://org/name or "
        "hf://org/name@revision"
    )


def test_every_task_stands_alone(merged: Path) -> None:
    (merged / ".cache").mkdir()
    for hidden in (".cache/index.json", ".README.md.partial-7-abc", "sst2/.lock"):
        (merged / hidden).write_text("{}")
    listed = files_to_send(merged)
    shards = [f"backbone-{number:05d}-of-00003.safetensors" for number in range(1, 4)]
    model = sorted([*shards, "config.json", "head.safetensors", "model.safetensors.index.json"])
    assert list(listed) == ["README.md", "recipe.yaml"] + [
        f"{task}/{file}" for task in ("rte", "sst2") for file in model
    ]
    assert all(size == len((merged / name).read_bytes()) > 0 for name, size in listed.items())


def test_a_backbone_that_nobody_links_to_is_sent(tmp_path: Path) -> None:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model.safetensors").write_bytes(b"others")
    (tmp_path / "newest.safetensors").symlink_to("model.safetensors")
    assert files_to_send(tmp_path) == {
        "backbone/model.safetensors": 7,
        "model.safetensors": 6,
        "newest.safetensors": 6,
    }


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "gone", "link", "folder"])
def test_a_link_that_leads_to_no_file_of_the_directory(
    tmp_path: Path, refused: Refused, target: str
) -> None:
    (tmp_path / "outside").write_text("secret")
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    (place / "link").symlink_to(target)
    line = refused(CheckpointError, files_to_send, place)
    assert line == f"{place}/link leads to no file in {place}; replace it by the file that is meant"


def test_no_directory(tmp_path: Path, refused: Refused) -> None:
    assert refused(CheckpointError, files_to_send, tmp_path / "no").startswith(
        f"no directory {tmp_path}/no; "
    )


@pytest.mark.parametrize("private", [False, True])
def test_one_commit_holds_what_was_listed(merged: Path, hub: Hub, private: bool) -> None:
    url = send(merged, REPO, message="Add the merge", private=private, endpoint=hub.url)
    assert url == f"{hub.url}/team/glue/commit/1"
    assert hub.commits == [("team/glue", "main", "Add the merge")]
    assert hub.private == {"team/glue": private}
    assert hub.branches == []
    assert hub.files == {name: (merged / name).read_bytes() for name in files_to_send(merged)}
    weights = {file for file in merged.rglob("*.safetensors") if not file.is_symlink()}
    assert sorted(hub.objects) == sorted(
        sha256(file.read_bytes()).hexdigest() for file in weights
    )  # shared shards once


def test_transformers_loads_a_task_of_what_was_sent(
    merged: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(merged, REPO, message="Add the merge", endpoint=hub.url)
    # even with local_files_only transformers asks the hub itself for an adapter
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = tmp_path / "cache" / "models--team--glue"
    for name, content in hub.files.items():
        file = cache / "snapshots" / "0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0")
    for task, labels in (("rte", 2), ("sst2", 3)):
        sent, info = AutoModelForSequenceClassification.from_pretrained(
            "team/glue",
            subfolder=task,
            cache_dir=cache.parent,
            local_files_only=True,
            output_loading_info=True,
        )
        assert not any(info.values())
        assert sent.config.num_labels == labels
        there = AutoModelForSequenceClassification.from_pretrained(merged / task).state_dict()
        assert sent.state_dict().keys() == there.keys()
        assert all(torch.equal(tensor, there[name]) for name, tensor in sent.state_dict().items())


def test_weights_that_the_hub_has_are_not_sent_again(merged: Path, hub: Hub) -> None:
    send(merged, REPO, message="one", endpoint=hub.url)
    hub.asked.clear()
    (merged / "README.md").write_text("# A better card\n")
    send(merged, REPO, message="two", endpoint=hub.url)
    assert not [line for line in hub.asked if line.startswith("PUT")]
    assert hub.files["README.md"] == b"# A better card\n"
    assert [message for _, _, message in hub.commits] == ["one", "two"]


def test_a_branch(merged: Path, hub: Hub) -> None:
    send(merged, HubRepo("team/glue", "v1"), message="m", endpoint=hub.url)
    assert hub.branches == ["v1"]
    assert hub.commits == [("team/glue", "v1", "m")]


def test_a_token_that_may_write_but_make_no_repository(merged: Path, hub: Hub) -> None:
    hub.private["team/glue"] = True
    hub.refuse = {"/create": 403}
    send(merged, REPO, message="m", endpoint=hub.url)
    assert len(hub.commits) == 1


def test_private_is_not_put_where_everybody_reads(merged: Path, hub: Hub, refused: Refused) -> None:
    hub.private["team/glue"] = False
    line = refused(OutputError, send, merged, REPO, message="m", private=True, endpoint=hub.url)
    assert line == (
        "team/glue is public; make it private in its settings, or send without asking for private"
    )
    assert hub.commits == [] and hub.objects == {}


def test_one_file_beside_a_model(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "f").write_bytes(b"Fisher")
    url = send_file(
        tmp_path / "f", REPO, "fisher.safetensors", message="Add the Fisher", endpoint=hub.url
    )
    assert url == f"{hub.url}/team/glue/commit/1"
    assert hub.files == {"fisher.safetensors": b"Fisher"}
    assert not [line for line in hub.asked if "/create" in line or "/branch/" in line]


@pytest.mark.parametrize(
    ("file", "name"), [("no", "fisher.safetensors"), ("f", "../f"), ("f", ".git/f")]
)
def test_a_file_that_cannot_be_sent(
    tmp_path: Path, hub: Hub, refused: Refused, file: str, name: str
) -> None:
    (tmp_path / "f").touch()
    line = refused(
        CheckpointError, send_file, tmp_path / file, REPO, name, message="m", endpoint=hub.url
    )
    assert line.startswith(f"cannot send {tmp_path / file} as '{name}' (")
    assert hub.asked == []


def test_nothing_is_sent_without_a_card(merged: Path, hub: Hub, refused: Refused) -> None:
    (merged / "README.md").unlink()
    line = refused(CheckpointError, send, merged, REPO, message="m", endpoint=hub.url)
    assert line.startswith(f"{merged} has no README.md, the model card")
    assert hub.asked == []


def test_a_card_that_the_hub_does_not_take_costs_no_upload(
    merged: Path, hub: Hub, refused: Refused
) -> None:
    (merged / "README.md").write_text("wrong\n")
    line = refused(OutputError, send, merged, REPO, message="m", endpoint=hub.url)
    assert (
        "the hub answered 400 (Invalid metadata in README.md. - no such licence); mend what it says"
        in line
    )
    assert hub.objects == {}


@pytest.mark.parametrize(
    ("part", "status", "advice"),
    [
        ("/api/", 401, "run 'hf auth login' or set HF_TOKEN to one that may write"),
        (
            "/create",
            403,
            "this token may not write there; use one that may, or choose a namespace of your own",
        ),
        (
            "/commit/",
            403,
            "this token may not write there; use one that may, or choose a namespace of your own",
        ),
        (
            "/preupload/",
            404,
            "check the namespace, the name and the revision, and that the token may see them",
        ),
        (
            "/objects/",
            403,
            "this token may not write there; use one that may, or choose a namespace of your own",
        ),
        ("/create", 500, "nothing is wrong here; send again later"),
        ("/commit/", 413, "mend what it says"),
    ],
)
def test_what_the_hub_refuses(
    merged: Path, hub: Hub, refused: Refused, part: str, status: int, advice: str
) -> None:
    hub.refuse = {part: status}
    line = refused(OutputError, send, merged, REPO, message="m", endpoint=hub.url)
    assert line.startswith(f"could not send to hf://team/glue: the hub answered {status} (")
    assert line.endswith(f"; {advice}")
    assert TOKEN not in line
    assert hub.commits == []


def test_another_token(
    merged: Path, hub: Hub, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    line = refused(OutputError, send, merged, REPO, message="m", endpoint=hub.url)
    assert "the hub answered 401" in line and "hf_another" not in line and "'hf auth login'" in line


@pytest.mark.parametrize("token", ["hf_a\x01b", "hf_ä", "hf a"])
def test_no_token_at_all(
    merged: Path, hub: Hub, refused: Refused, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    line = refused(OutputError, send, merged, REPO, message="m", endpoint=hub.url)
    assert "has characters that no token has; run 'hf auth login' or set HF_TOKEN" in line
    assert "hf_" not in line and hub.asked == []


def test_the_public_hub_is_not_asked_without_a_token(
    merged: Path, hub: Hub, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = refused(OutputError, send, merged, REPO, message="m", endpoint="https://huggingface.co/")
    assert line == (
        "no token for https://huggingface.co; run 'hf auth login' or set HF_TOKEN to one that "
        "may write"
    )


def test_nobody_answers(merged: Path, hub: Hub, refused: Refused) -> None:
    hub.shutdown()
    hub.server_close()
    line = refused(OutputError, send, merged, REPO, message="m", endpoint=hub.url)
    assert line.startswith(f"could not send to hf://team/glue at {hub.url} (")
    assert line.endswith("); check the network and HF_ENDPOINT, then send again")


OFFLINE = """
import sys
from pathlib import Path
import fmn.checkpoint as checkpoint
assert "huggingface_hub" not in sys.modules, "imported before it is needed"
try:
    checkpoint.send_file(Path(sys.argv[1]), checkpoint.HubRepo("team/glue"), "f", message="m")
except checkpoint.hub.OutputError as error:
    print(error)
"""


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").touch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = python(OFFLINE, tmp_path / "f")
    assert done.stderr == ""
    assert (
        "offline mode is enabled" in done.stdout
        and "HF_HUB_OFFLINE" in done.stdout
        and done.stdout.count("\n") == 1
    )


@pytest.mark.parametrize("progress", [False, True])
def test_bars_only_where_they_are_asked_for(
    merged: Path,
    hub: Hub,
    capfd: pytest.CaptureFixture[str],
    progress: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(merged, REPO, message="m", progress=progress, endpoint=hub.url)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("safetensors" in err) == progress
