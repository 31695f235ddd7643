"""Programs that start at once: forked from a process that has imported what they need.

A test that puts :func:`programs` first on ``PATH`` gets ``fmn``, ``dvc`` and ``python`` from there.
Each is a small client of that process; what it starts has the client's arguments, environment,
directory, files and signals, and the client ends as that does. All of ``python`` but a script gets
an interpreter of its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tests.once import Once

ROOT = Path(__file__).parents[1]
READY = "ready"
IMPORTED = (
    "datasets",
    "dvc.cli",
    "dvc.repo",
    "dvc_data.hashfile.db",
    "s3fs",
    "transformers.models.bert.modeling_bert",
)
"""Besides fmn itself; Prefect chooses where it keeps its state when it is imported."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def programs(once: Once) -> Path:
    """Return a directory of programs."""
    socket_file = once.folder / "programs.socket"
    once.server(
        "programs",
        [sys.executable, "-m", "tests.programs", str(socket_file)],
        lambda printed: READY if READY in printed else None,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )

    def write(folder: Path) -> None:
        folder.mkdir()
        for name in ("fmn", "dvc", "python"):
            program = folder / name
            program.write_text(
                f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                f"from tests.programs import ask\nask({str(socket_file)!r}, {name!r})\n"
            )
            program.chmod(0o755)

    return once.directory("bin", write)


def ask(server: str, name: str) -> NoReturn:
    """Have the server start a program; end as it does."""
    arguments = sys.argv[1:]
    if name == "python" and not (arguments and arguments[0].endswith(".py")):
        os.execv(sys.executable, [sys.executable, *arguments])
    request = {
        "name": name,
        "arguments": arguments,
        "environment": {**os.environ},
        "folder": str(Path.cwd()),
        "umask": _umask(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server)
        content = json.dumps(request).encode()
        socket.send_fds(connection, [len(content).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(content)
        for number in PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
        status = connection.recv(4)
    code = int.from_bytes(status, "big", signed=True) if status else -signal.SIGKILL
    if code < 0:
        with suppress(OSError):  # SIGKILL
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def serve(server: str) -> NoReturn:
    """Import, and start a program for each who connects."""
    import gc
    import importlib

    files = [file.relative_to(ROOT) for file in sorted((ROOT / "fmn").rglob("*.py"))]
    ours = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    for module in (*IMPORTED, *(name for name in ours if not name.startswith("fmn.flows"))):
        importlib.import_module(module)
    gc.freeze()  # what is here is not touched, and so not copied, by those who collect theirs
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(server)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print(READY, flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _keep(connection)
            connection.close()


def _keep(connection: socket.socket) -> NoReturn:
    """Start what is asked for, pass signals on, tell how it ended; end it where the client ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        _run(**json.loads(content))
    for file in files:
        os.close(file)
    ended = os.pidfd_open(pid)
    while ended not in (ready := select.select([ended, connection], [], [])[0]):
        numbers = connection.recv(16) if connection in ready else b""
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)
        if not numbers:
            break
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _run(
    name: str, arguments: list[str], environment: dict[str, str], folder: str, umask: int
) -> NoReturn:
    """Be the program."""
    import atexit
    import runpy
    import threading
    import types
    from importlib.metadata import entry_points

    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["__main__"] = types.ModuleType("__main__")
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        mode, by_line = "w" if number else "r", 1 if number == 2 or os.isatty(number) else -1
        opened = os.fdopen(number, mode, by_line, encoding="utf-8", closefd=False)
        setattr(sys, stream, opened)
    # an interpreter of its own would have looked there, not in this one's directory and ROOT
    sys.path[:2] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    code: Any = 0
    try:
        if name == "python":
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent.resolve()))
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            sys.argv = [name, *arguments]
            sys.path.insert(0, str(Path(sys.executable).parent))
            (program,) = entry_points(group="console_scripts", name=name)
            code = program.load()()
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 255)


if __name__ == "__main__":
    serve(sys.argv[1])
