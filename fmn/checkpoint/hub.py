"""Sending a directory, or one file, to a repository of the Hugging Face hub."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmn.errors import CheckpointError, FmnError, OutputError, ParamsError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

NAME = r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?"
ADDRESS = re.compile(
    rf"hf://(?P<id>{NAME}/{NAME}(?<!\.git))(?:@(?P<revision>(?!.*\.\.)\w[\w.-]*(?:/[\w.-]+)*))?",
    re.ASCII,
)
HUB = "https://huggingface.co"
LOGIN = "run 'hf auth login' or set HF_TOKEN"
ADVICE = {
    401: f"the hub does not accept the token; {LOGIN} to one that may write",
    403: "this token may not write there; use one that may, or choose a namespace of your own",
    404: "check the namespace, the name and the revision, and that the token may see them",
}


@dataclass(frozen=True)
class HubRepo:
    """A model repository of the hub.

    Attributes:
        id: ``org/name``; a person's own name is an ``org`` too.
        revision: branch; None is the main one.
    """

    id: str
    revision: str | None = None

    @classmethod
    def parse(cls, address: str) -> HubRepo:
        """Read ``hf://org/name`` or ``hf://org/name@revision``.

        Raises:
            ParamsError: anything else.
        """
        match = ADDRESS.fullmatch(address)
        if not match or len(match["id"]) > 96:
            raise ParamsError(
                f"{address!r} is not a repository of the hub; expected hf://org/name or "
                "hf://org/name@revision"
            )
        return cls(match["id"], match["revision"])

    def __str__(self) -> str:
        return f"hf://{self.id}" + (f"@{self.revision}" if self.revision else "")


def files_to_send(folder: Path) -> dict[str, int]:
    """List what :func:`send` sends: path in the repository to bytes, sorted.

    The hub has no links, so each is sent as the file that it leads to, and stored there once.
    Shards in ``backbone/`` that the task directories link to are left out: on the hub every task
    directory has them, and nothing else asks for them. Hidden files are left out.

    Raises:
        CheckpointError: no such directory, or a link in it that leads nowhere, to a directory, or
            out of it.
    """
    return {name: path.stat().st_size for name, path in _sources(folder).items()}


def check_token() -> None:
    """Check, before any work, that there is a token to send with, if the hub is the public one.

    Raises:
        OutputError: there is none, or it is malformed.
    """
    from huggingface_hub import constants, get_token

    _check_token(get_token(), constants.ENDPOINT.rstrip("/"))


def send(
    folder: Path,
    repo: HubRepo,
    *,
    message: str,
    private: bool = False,
    progress: bool = False,
    endpoint: str | None = None,
) -> str:
    """Send a directory in one commit; make the repository and the branch if they are not there.

    What is in the repository under other names stays.

    Args:
        folder: has a README.md, the model card.
        repo: where to.
        message: of the commit.
        private: make a private repository, and refuse one that is public; otherwise a new one is as
            its organisation has it.
        progress: show the hub client's progress bars on standard error.
        endpoint: the hub's URL, if it is not HF_ENDPOINT or the public one.

    Returns:
        URL of the commit.

    Raises:
        CheckpointError: the directory has no README.md, or is not as :func:`files_to_send` wants
            it.
        OutputError: no token, or the hub refuses or cannot be reached.
    """
    sources = _sources(folder)
    if "README.md" not in sources:
        raise CheckpointError(
            f"{folder} has no README.md, the model card that the hub shows; write one, then send "
            "it again"
        )
    additions = _additions(sources)
    with _hub(repo, endpoint, progress) as hub:
        # a token may be allowed to write to a repository, but not to make one
        if not hub.repo_exists(repo.id):
            hub.create_repo(repo.id, private=private or None, exist_ok=True)
        if private and not hub.model_info(repo.id).private:
            raise OutputError(
                f"{repo.id} is public; make it private in its settings, or send without asking for "
                "private"
            )
        if repo.revision:
            hub.create_branch(repo.id, branch=repo.revision, exist_ok=True)
        return _commit(hub, repo, additions, message)


def send_file(
    path: Path,
    repo: HubRepo,
    path_in_repo: str,
    *,
    message: str,
    progress: bool = False,
    endpoint: str | None = None,
) -> str:
    """Send one file into a repository and branch that are there already.

    Returns:
        URL of the commit.

    Raises:
        CheckpointError: no such file, or a path that a repository cannot have.
        OutputError: no token, or the hub refuses or cannot be reached.
    """
    additions = _additions({path_in_repo: path})
    with _hub(repo, endpoint, progress) as hub:
        return _commit(hub, repo, additions, message)


def _sources(folder: Path) -> dict[str, Path]:
    """Path in the repository to the file itself, links followed, sorted."""
    if not folder.is_dir():
        raise CheckpointError(f"no directory {folder}; expected one to send to the hub")
    root = folder.resolve()
    files, linked = {}, set()
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if any(part.startswith(".") for part in name.parts) or (
            path.is_dir() and not path.is_symlink()
        ):
            continue
        target = _target(path)
        if target is None or root not in target.parents:
            raise CheckpointError(
                f"{folder / name} leads to no file in {folder}; replace it by the file that is "
                "meant"
            )
        files[name.as_posix()] = target
        if path.is_symlink():
            linked.add(target)
    return {
        name: files[name]
        for name in sorted(files)
        if not (name.startswith("backbone/") and root / name in linked)
    }


def _target(path: Path) -> Path | None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # leads nowhere, or to itself
        return None
    return target if target.is_file() else None


def _additions(sources: Mapping[str, Path]) -> list[CommitOperationAdd]:
    from huggingface_hub import CommitOperationAdd

    additions = []
    for name, path in sources.items():
        try:
            additions.append(CommitOperationAdd(name, path))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot send {path} as '{name}' ({_one_line(error)})") from error
    return additions


def _commit(hub: HfApi, repo: HubRepo, additions: list[CommitOperationAdd], message: str) -> str:
    """Commit once; ``upload_folder`` may split what it sends into several commits."""
    return str(
        hub.create_commit(
            repo.id, additions, commit_message=message, revision=repo.revision
        ).commit_url
    )


@contextmanager
def _hub(repo: HubRepo, endpoint: str | None, progress: bool) -> Iterator[HfApi]:
    """Give the hub's client; say in one line, without the token, what went wrong with it."""
    from huggingface_hub import HfApi, constants, get_token

    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    token = None
    try:
        token = get_token()
        _check_token(token, endpoint)
        with _bars(progress):
            yield HfApi(endpoint=endpoint, token=token or False)
    except FmnError:
        raise
    # the hub client's errors differ between its versions and those of its HTTP library
    except Exception as error:
        line = _reason(error, repo, endpoint)
        raise OutputError(line.replace(token, "…") if token else line) from error


def _check_token(token: str | None, endpoint: str) -> None:
    if token is None and endpoint == HUB:
        raise OutputError(f"no token for {HUB}; {LOGIN} to one that may write")
    if token is not None and not re.fullmatch(r"[!-~]+", token):  # the HTTP library would print it
        raise OutputError(
            f"the token for {endpoint} has characters that no token has; {LOGIN} again"
        )


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _reason(error: BaseException, repo: HubRepo, endpoint: str) -> str:
    status = _status(error)
    reason = _one_line(getattr(error, "server_message", None) or error)
    if status is None:
        return (
            f"could not send to {repo} at {endpoint} ({reason}); check the network and "
            "HF_ENDPOINT, then send again"
        )
    advice = ADVICE.get(
        status, "mend what it says" if status < 500 else "nothing is wrong here; send again later"
    )
    return f"could not send to {repo}: the hub answered {status} ({reason}); {advice}"


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that is behind an error; the client wraps some of them."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


def _one_line(value: object) -> str:
    return textwrap.shorten(str(value), 300, placeholder=" …") or type(value).__name__
