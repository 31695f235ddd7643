"""A bucket of an S3-compatible server as the files of a store."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar

from fmn.errors import StoreError
from fmn.store.files import LARGEST, Files, Patience, Stamp
from fmn.store.names import inside

T = TypeVar("T")

ONE_REQUEST = {"start": 0, "end": LARGEST + 1}
"""To read a file, which is small: s3fs would ask for its size first, to read it in parts."""

EMPTY = ("InvalidRange", "416")
"""What a server answers who is asked for the beginning of an empty file."""


class Bucket(Files):
    """A prefix of a bucket, through s3fs; AWS's environment has endpoint and credentials."""

    def __init__(self, url: str, patience: Patience, warn: Callable[[str], None]) -> None:
        import s3fs

        self.url = "s3://" + url.removeprefix("s3://").rstrip("/")
        self._patience, self._warn = patience, warn
        self.is_conditional = True
        self._fs = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            # one place retries: `guarded`
            config_kwargs={
                "connect_timeout": patience.connect,
                "read_timeout": patience.read,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": 32,
            },
        )
        self._fs.retries = 1
        bucket, _, prefix = self.root.partition("/")
        if not bucket:
            raise StoreError(f"'{url}' names no bucket; expected s3://bucket/prefix")
        look = lambda: self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)  # noqa: E731
        try:
            self.guarded("look into it", look, absent=True)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.url}: there is no bucket '{bucket}'; make it, or check the name and "
                "AWS_ENDPOINT_URL"
            ) from error

    @property
    def root(self) -> str:
        """Bucket and prefix."""
        return self.url.removeprefix("s3://")

    def filesystem(self) -> Any:
        """Return the s3fs file system."""
        return self._fs

    def guarded(self, what: str, operation: Callable[[], T], *, absent: bool = False) -> T:
        """Run an operation; ask a server that fails, which is no absence, again after a while."""
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return operation()
            except StoreError:
                raise
            except Exception as error:  # from botocore, aiohttp, asyncio, s3fs: no common base
                if absent and isinstance(error, FileNotFoundError):
                    raise
                if not _passing(error):
                    raise StoreError(
                        f"{self.url}: cannot {what}: {_reason(error)}; {_check(error)}"
                    ) from error
                if attempt == self._patience.attempts:
                    raise StoreError(
                        f"{self.url}: cannot {what}: {_reason(error)} ({attempt} attempts); "
                        f"{_check(error)}; what was stored stays, run again"
                    ) from error
            self._patience.wait(attempt)
        raise AssertionError("unreachable")

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Read files, many at a time."""
        path_of = {f"{self.root}/{inside(path)}": path for path in paths}
        contents: dict[str, bytes] = {}

        def fetch() -> None:
            missing = sorted(full for full in path_of if path_of[full] not in contents)
            answers = (
                self._fs.cat(missing, recursive=False, on_error="return", **ONE_REQUEST)
                if missing
                else {}
            )
            failure = None
            for full, answer in answers.items():
                if isinstance(answer, bytes):
                    contents[path_of[full]] = answer
                elif _code(answer) in EMPTY:
                    contents[path_of[full]] = b""
                elif isinstance(answer, FileNotFoundError) and _code(answer) != "NoSuchBucket":
                    path_of.pop(full)
                else:
                    failure = answer
            if failure:
                raise failure

        what = f"{len(path_of)} files" if len(path_of) != 1 else next(iter(path_of.values()))
        self.guarded(f"read {what}", fetch)
        return contents

    def write(self, path: str, content: bytes, media_type: str | None = None) -> None:
        """Put an object."""
        headers = {"ContentType": media_type} if media_type else {}
        self.guarded(
            f"write {path}",
            lambda: self._fs.pipe_file(f"{self.root}/{inside(path)}", content, **headers),
        )

    def create(self, path: str, content: bytes) -> bool:
        """Put an object if there is none; after a look, where the server knows no conditions."""
        if self.is_conditional:
            try:
                return self.guarded(f"write {path}", lambda: self._create(path, content))
            except _NoConditionsError:
                self.is_conditional = False
                self._warn(
                    f"{self.url}: the server knows no conditional puts; two writers of one record "
                    "may both write it, runs at the same time do not share their work, and it "
                    "cannot order two moves of a tag at once"
                )
        if self.stamp(path):
            return False
        self.write(path, content)
        return True

    def _create(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(f"{self.root}/{inside(path)}", content, mode="create")
        except Exception as error:
            code = _code(error)
            if isinstance(error, FileExistsError) or code in ("PreconditionFailed", "412"):
                # after a connection that broke, what is there may be what this very call wrote
                with suppress(FileNotFoundError):  # a claim that was given back since
                    return self._body(path) == content
                return False
            if code in ("NotImplemented", "501", "InvalidArgument", "MethodNotAllowed"):
                raise _NoConditionsError from error
            raise
        return True

    def _body(self, path: str) -> bytes:
        try:
            body: bytes = self._fs.cat_file(f"{self.root}/{path}", **ONE_REQUEST)
        except Exception as failure:
            if _code(failure) in EMPTY:
                return b""
            raise
        return body

    def list(self, prefix: str) -> dict[str, Stamp]:
        """List a prefix, a thousand objects a request."""
        whole = f"{self.root}/{prefix}"
        infos = self.guarded(
            f"list {prefix}", lambda: self._fs.find(whole, detail=True, withdirs=False)
        )
        cut = len(self.root) + 1
        return {
            path[cut:]: _s3_stamp(info)
            for path, info in sorted(infos.items())
            if info["type"] == "file"
        }

    def stamp(self, path: str) -> Stamp | None:
        """Ask for an object's head; s3fs would also look for a directory of that name."""
        bucket, _, key = f"{self.root}/{path}".partition("/")
        ask = lambda: self._fs.call_s3("head_object", Bucket=bucket, Key=key)  # noqa: E731
        with suppress(FileNotFoundError):
            head = self.guarded(f"look at {path}", ask, absent=True)
            return _s3_stamp({"size": head["ContentLength"], **head})
        return None

    def _delete(self, path: PurePosixPath) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            self.guarded(
                f"delete {path}", lambda: self._fs.rm_file(f"{self.root}/{path}"), absent=True
            )


class _NoConditionsError(StoreError):
    """The server refuses conditional puts."""


def _s3_stamp(info: Mapping[str, Any]) -> Stamp:
    return Stamp(
        int(info["size"]), info["LastModified"].timestamp(), str(info.get("ETag", "")).strip('"')
    )


def _answer(error: BaseException | None) -> dict[str, Any]:
    """Return what the server answered, as botocore has it; nothing if there was no answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return {}


def _code(error: BaseException | None) -> str:
    return str(_answer(error).get("Error", {}).get("Code", ""))


PASSING = (429, 500, 502, 503, 504)
"""HTTP's codes of failures that may pass."""

PASSING_CODES = ("RequestTimeout", "RequestTimeTooSkewed", "ConditionalRequestConflict")
"""Those that S3 answers with another code of HTTP."""

HERE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Failures of this machine's disk, not of the server."""


def _passing(error: Exception) -> bool:
    """Tell whether to ask again: not after a clear answer, or for want of a setting."""
    from botocore.exceptions import (
        BotoCoreError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )
    from botocore.exceptions import ConnectionError as UnreachableError

    if answer := _answer(error):
        return (
            answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in PASSING
            or _code(error) in PASSING_CODES
        )
    if isinstance(
        error, NoCredentialsError | PartialCredentialsError | ParamValidationError | PermissionError
    ):
        return False
    if isinstance(error, OSError) and error.errno in HERE:
        return False
    return isinstance(
        error, HTTPClientError | UnreachableError | OSError | TimeoutError
    ) or not isinstance(error, BotoCoreError | TypeError)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check(error: Exception) -> str:
    code = _code(error)
    if isinstance(error, OSError) and error.errno in HERE:
        return "make room on this machine's disk, or set FMN_CACHE to a directory elsewhere"
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch") or isinstance(
        error, PermissionError
    ):
        return "check what the credentials in the AWS environment or configuration may do there"
    if "credentials" in str(error).lower():
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    return "check the network, AWS_ENDPOINT_URL and the server"
