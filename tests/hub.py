"""A small hub over HTTP that answers the client's uploads as it expects: it shows what is sent, not
what the hub makes of it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_secret0123456789"


class Hub(ThreadingHTTPServer):
    """Repositories in memory; ``refuse`` answers requests whose path holds a text with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.private: dict[str, bool] = {}
        self.branches: list[str] = []
        self.commits: list[tuple[str, str, str]] = []
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.refuse: dict[str, int] = {}

    def keep(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self) -> bool:
        """Answer what is to fail; the answer shows the token, as a careless server might."""
        self.server.asked.append(f"{self.command} {self.path}")
        sent = self.headers.get("Authorization")
        status = next(
            (code for part, code in self.server.refuse.items() if part in self.path), None
        )
        if status is None and sent != f"Bearer {TOKEN}" and not self.path.startswith("/objects/"):
            status = 401
        if status is not None:
            self.answer({"error": f"not with {sent}"}, status)
        return status is not None

    def do_GET(self) -> None:
        if self.refused():
            return
        name = self.path.removeprefix("/api/models/")
        if name in self.server.private:
            self.answer(
                {
                    "id": name,
                    "private": self.server.private[name],
                    "sha": str(len(self.server.commits)),
                }
            )
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.refused():
            self.server.objects[self.path.removeprefix("/objects/")] = body
            self.answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.refused():
            parts = ("create", "validate-yaml", "branch", "preupload", "batch", "commit")
            part = next(part for part in parts if f"/{part}" in self.path)
            getattr(self, part.replace("-", "_"))([json.loads(line) for line in body.splitlines()])

    def create(self, asked: list[Any]) -> None:
        name, known = "{organization}/{name}".format_map(asked[0]), self.server.private
        known[name] = asked[0].get("visibility") == "private" or asked[0].get("private", False)
        self.answer({"url": f"{self.server.url}/{name}"})

    def validate_yaml(self, asked: list[Any]) -> None:
        wrong = asked[0]["content"].startswith("wrong")
        self.answer(
            {"warnings": [], "errors": [{"message": "no such licence"}] * wrong},
            400 if wrong else 200,
        )

    def branch(self, asked: list[Any]) -> None:
        self.server.branches.append(self.path.rpartition("/")[2])
        self.answer({})

    def preupload(self, asked: list[Any]) -> None:
        modes = {
            file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular"
            for file in asked[0]["files"]
        }
        self.answer(
            {
                "files": [
                    {"path": path, "uploadMode": mode, "shouldIgnore": False}
                    for path, mode in modes.items()
                ]
            }
        )

    def batch(self, asked: list[Any]) -> None:
        objects: list[dict[str, Any]] = [
            {"oid": each["oid"], "size": each["size"]} for each in asked[0]["objects"]
        ]
        for each in objects:
            if each["oid"] not in self.server.objects:
                each["actions"] = {"upload": {"href": f"{self.server.url}/objects/{each['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, asked: list[Any]) -> None:
        hub = self.server
        name, _, revision = self.path.removeprefix("/api/models/").partition("/commit/")
        header, *lines = asked
        hub.keep(lines)
        hub.commits.append((name, revision, header["value"]["summary"]))
        self.answer(
            {
                "commitUrl": f"{hub.url}/{name}/commit/{len(hub.commits)}",
                "commitOid": str(len(hub.commits)),
            }
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(
        constants, "HF_HUB_DISABLE_XET", True
    )  # the storage of xet is another server
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
