"""Where a model is looked for, and what is said when it is nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from fmn.checkpoint import fetch_fishers, local_directory, open_checkpoint
from fmn.errors import CheckpointError
from tests.checkpoint.conftest import Refused, python


class Hub:
    """What the hub has, and what was asked of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.files: list[str] | Exception = []
        self.cached = False
        self.asked: list[tuple[str, str | None]] = []
        self.downloads: list[dict[str, Any]] = []

    def model_info(self, name: str, revision: str | None = None) -> Any:
        self.asked.append((name, revision))
        if isinstance(self.files, Exception):
            raise self.files
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.downloads.append({"name": name, **options})
        if options.get("local_files_only") and not self.cached:
            raise LocalEntryNotFoundError("not in the cache")
        return str(self.place)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    assert local_directory(tmp_path) == local_directory(str(tmp_path)) == tmp_path
    (tmp_path / "zoo" / "sst2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_directory("zoo/sst2") == Path("zoo/sst2")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_directory("~/zoo") == tmp_path / "zoo"
    assert hub.asked == []


def test_a_directory_has_no_revision(tmp_path: Path, refused: Refused) -> None:
    line = refused(CheckpointError, local_directory, tmp_path, "main")
    assert line == f"{tmp_path} is a directory, which has no revision; leave out revision: main"


def test_a_file(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "model.safetensors").touch()
    line = refused(CheckpointError, local_directory, tmp_path / "model.safetensors")
    assert line.endswith("is a file; expected the directory that holds config.json and the weights")


@pytest.mark.parametrize(
    "name",
    [
        "/no/such",
        "./no/such",
        "../no",
        "~/no/such",
        "zoo/no/such",
        "a b",
        "a//b",
        "zoo/",
        "https://x.y/z",
    ],
)
def test_what_can_only_be_a_path_is_not_asked_of_the_hub(
    name: str, refused: Refused, hub: Hub
) -> None:
    line = refused(CheckpointError, local_directory, name)
    assert line.startswith(f"no directory {name}; expected a transformers directory")
    assert "hub id" in line
    assert hub.asked == hub.downloads == []


OFFLINE = """
import sys
from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError
try:
    open_checkpoint(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


def test_neither_a_directory_nor_on_a_hub_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    started = time.monotonic()
    done = python(OFFLINE, "zoo/no-such")
    assert time.monotonic() - started < 10
    assert done.stderr == ""
    line = done.stdout.rstrip("\n")
    assert line.startswith(
        "no directory zoo/no-such, and no such model could be had from the hub ("
    )
    assert "offline mode is enabled" in line and "\n" not in line


def test_safetensors_are_preferred(hub: Hub) -> None:
    hub.files = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "tf_model.h5",
        "training_args.bin",
    ]
    assert local_directory("team/model", "v1") == hub.place
    assert hub.asked == [("team/model", "v1")]
    (download,) = hub.downloads
    assert (download["name"], download["revision"]) == ("team/model", "v1")
    assert matched(download, hub.files) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("decoy", ["adapter_model.safetensors", "onnx/model.safetensors"])
def test_pickles_only_where_there_is_nothing_else(hub: Hub, decoy: str) -> None:
    shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    hub.files = [
        decoy,
        "config.json",
        "merges.txt",
        "optimizer.bin",
        "pytorch_model.bin.index.json",
        *shards,
        "spiece.model",
    ]
    local_directory("model")
    kept = ["config.json", "merges.txt", "pytorch_model.bin.index.json", *shards, "spiece.model"]
    assert matched(hub.downloads[0], hub.files) == sorted(kept)


def test_shards_of_safetensors(hub: Hub) -> None:
    hub.files = [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "evil.py",
    ]
    local_directory("team/model")
    assert matched(hub.downloads[0], hub.files) == hub.files[:2]


def test_a_published_mask_fisher_comes_with_its_model_and_one_as_large_as_the_model_does_not(
    hub: Hub,
) -> None:
    hub.files = [
        "config.json",
        "fisher/diagonal.rte.safetensors",
        "fisher/mask.rte.safetensors",
        "model.safetensors",
    ]
    local_directory("team/model")
    assert matched(hub.downloads[0], hub.files) == [
        "config.json",
        "fisher/mask.rte.safetensors",
        "model.safetensors",
    ]


def test_another_statistic_is_fetched_when_it_is_needed_and_of_the_same_commit(hub: Hub) -> None:
    hub.files = ["config.json", "fisher/diagonal.rte.safetensors", "fisher/moments.rte.safetensors"]
    fetch_fishers("team/model", hub.place, "moments")
    (download,) = hub.downloads
    assert (download["name"], download["revision"]) == ("team/model", hub.place.name)
    assert matched(download, hub.files) == ["fisher/moments.rte.safetensors"]


def test_nothing_is_fetched_that_came_with_the_model_or_lies_in_a_directory(hub: Hub) -> None:
    fetch_fishers("team/model", hub.place, "mask")
    fetch_fishers(str(hub.place), hub.place, "moments")
    assert hub.downloads == []


def test_a_statistic_that_the_hub_refuses_is_no_lack(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def refuse(name: str, **options: Any) -> str:
        raise OSError("403\n Forbidden")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    line = refused(CheckpointError, fetch_fishers, "team/model", hub.place, "moments")
    assert line == "what lies beside team/model could not be had from the hub (403 Forbidden)"


def matched(download: dict[str, Any], files: list[str]) -> list[str]:
    return sorted(
        huggingface_hub.utils.filter_repo_objects(files, allow_patterns=download["allow_patterns"])
    )


def test_what_was_downloaded_before_will_do_when_the_hub_is_away(hub: Hub) -> None:
    hub.files, hub.cached = ConnectionError("the hub is away"), True
    assert local_directory("team/model", "v1") == hub.place
    assert hub.downloads == [{"name": "team/model", "revision": "v1", "local_files_only": True}]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("404 (id: x)\n\n  Repository Not Found", "404 (id: x) Repository Not Found"),
        ("", "OSError"),
    ],
)
def test_the_hubs_reason_is_given_not_the_caches(
    hub: Hub, refused: Refused, reason: str, message: str
) -> None:
    hub.files = OSError(reason)
    line = refused(CheckpointError, open_checkpoint, "team/model")
    assert (
        line == f"no directory team/model, and no such model could be had from the hub ({message})"
    )
