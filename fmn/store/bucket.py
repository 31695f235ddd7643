"""A bucket of an S3-compatible server as the files of a store.

One place asks a failing server again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fmn.errors import StoreError
from fmn.store.files import Files, Patience, Stamp

T = TypeVar("T")

ONE_REQUEST = {"max_concurrency": 1}
"""To read a file, which is small: s3fs would ask for its size first, to read it in parts."""


class Bucket(Files):
    """A prefix of a bucket, through s3fs.

    Endpoint and credentials come from the standard AWS environment and configuration.
    """

    def __init__(self, url: str, patience: Patience, warn: Callable[[str], None]) -> None:
        import s3fs

        self.url, self._patience, self._warn = (
            "s3://" + url.removeprefix("s3://").rstrip("/"),
            patience,
            warn,
        )
        self._conditional = True
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
        """Run an operation; ask a failing server again, with growing waits.

        A failure is never taken for an absence.
        """
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
                        f"{self.url}: cannot {what}: {_said(error)}; {_check(error)}"
                    ) from error
                if attempt == self._patience.attempts:
                    raise StoreError(
                        f"{self.url}: cannot {what}: {_said(error)} ({attempt} attempts); "
                        f"{_check(error)}; what was stored stays, run again"
                    ) from error
            self._patience.wait(attempt)
        raise AssertionError("unreachable")

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Read files, many at a time."""
        wanted = {f"{self.root}/{path}": path for path in paths}
        found: dict[str, bytes] = {}

        def fetch() -> None:
            missing = sorted(full for full in wanted if wanted[full] not in found)
            answers = (
                self._fs.cat(missing, recursive=False, on_error="return", **ONE_REQUEST)
                if missing
                else {}
            )
            failure = None
            for full, answer in answers.items():
                if isinstance(answer, bytes):
                    found[wanted[full]] = answer
                elif isinstance(answer, FileNotFoundError) and _code(answer) != "NoSuchBucket":
                    wanted.pop(full)
                else:
                    failure = answer
            if failure:
                raise failure

        self.guarded(
            f"read {len(wanted)} files"
            if len(wanted) != 1
            else f"read {next(iter(wanted.values()))}",
            fetch,
        )
        return found

    def write(self, path: str, content: bytes, media_type: str | None = None) -> None:
        """Put an object."""
        said = {"ContentType": media_type} if media_type else {}
        self.guarded(
            f"write {path}", lambda: self._fs.pipe_file(f"{self.root}/{path}", content, **said)
        )

    def create(self, path: str, content: bytes) -> bool:
        """Put an object on the condition that there is none.

        Plainly, after a look, where the server knows no conditions.
        """
        if self._conditional:
            try:
                return self.guarded(f"write {path}", lambda: self._create(path, content))
            except _NoConditionsError:
                self._conditional = False
                self._warn(
                    f"{self.url}: the server knows no conditional puts; two writers of one record "
                    "may both write it"
                )
        if self.stamp(path):
            return False
        self.write(path, content)
        return True

    def _create(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(f"{self.root}/{path}", content, mode="create")
        except Exception as error:
            code = _code(error)
            if isinstance(error, FileExistsError) or code in ("PreconditionFailed", "412"):
                # after a connection that broke, what is there may be what this very call wrote
                there: bytes = self._fs.cat_file(f"{self.root}/{path}", **ONE_REQUEST)
                return there == content
            if code in ("NotImplemented", "501", "InvalidArgument", "MethodNotAllowed"):
                raise _NoConditionsError from error
            raise
        return True

    def list(self, prefix: str) -> dict[str, Stamp]:
        """List a prefix, a thousand objects a request."""
        whole = f"{self.root}/{prefix}"
        found = self.guarded(
            f"list {prefix}", lambda: self._fs.find(whole, detail=True, withdirs=False)
        )
        cut = len(self.root) + 1
        return {
            path[cut:]: _s3_stamp(info)
            for path, info in sorted(found.items())
            if info["type"] == "file"
        }

    def stamp(self, path: str) -> Stamp | None:
        """Ask for an object's head.

        S3fs itself would also list it, for a directory of that name.
        """
        bucket, _, key = f"{self.root}/{path}".partition("/")
        ask = lambda: self._fs.call_s3("head_object", Bucket=bucket, Key=key)  # noqa: E731
        with suppress(FileNotFoundError):
            head = self.guarded(f"look at {path}", ask, absent=True)
            return _s3_stamp({"size": head["ContentLength"], **head})
        return None

    def delete(self, path: str) -> None:
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
    """Tell whether it may help to ask again.

    It may after anything but a clear answer of the server, or no answer for want of a setting.
    """
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


def _said(error: Exception) -> str:
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
