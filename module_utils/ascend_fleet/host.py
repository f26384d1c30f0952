# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place with effects: running commands, reading and writing files of the server a module runs on.

Everything else in this package is given a `Host`, so that tests can hand in a strict fake and a program in a container is run
through the same call as one on the server (`Container.run`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import shutil
import signal
import stat as stat_module
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from .errors import CommandError, FleetError

HASH_CHUNK = 4 * 1024 * 1024  # bytes; large enough that the loop costs nothing beside the hash
SECONDS_TO_END = 5  # that a killed command and its pipes may take
SIDE_BY_SIDE = 4  # files read or fetched at once; more would make a disk seek
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> List[Result]:
    """Return what `work` gives for each item, in their order; for reading and waiting, which need no lock of the interpreter.

    The first error is raised once those that were begun have ended; no further one is begun then.
    """
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        begun = [pool.submit(work, item) for item in items]
        try:
            return [each.result() for each in begun]
        finally:
            for each in begun:
                each.cancel()


class Completed(NamedTuple):
    """What a finished command left: its arguments, exit status and decoded output."""

    argv: List[str]
    rc: int
    stdout: str
    stderr: str


class Runner:
    """Something that runs a command: the server itself, or a container on it."""

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: Optional[float] = None,
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[str] = None,
        remedy: str = "",
    ) -> Completed:
        """Run argv (never through a shell) and return what it left.

        Raises CommandError when it cannot be started or exceeds `timeout` seconds, and with `check` also when it exits
        non-zero. `env` adds to the environment; LC_ALL is always C.
        """
        raise NotImplementedError


class Host(Runner):
    """The server that the module runs on."""

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: Optional[float] = None,
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[str] = None,
        remedy: str = "",
    ) -> Completed:
        full_env = {**os.environ, "LC_ALL": "C", **(env or {})}
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=full_env,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(argv, None, "", "", f"cannot be started ({error.strerror})", remedy) from error
        rc, stdout, stderr = _finish(process, argv, stdin, timeout, remedy)
        done = Completed(list(argv), rc, stdout, stderr)
        if check and rc != 0:
            raise CommandError(argv, rc, stdout, stderr, remedy=remedy)
        return done

    def which(self, program: str) -> Optional[str]:
        """Return the path of a program, also from the sbin directories that a login may leave out of PATH."""
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"])
        return shutil.which(program, path=path)

    # Reading

    def stat(self, path: str) -> Optional[os.stat_result]:
        """Return stat of the path (links followed), or None where nothing is."""
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_file(self, path: str) -> bool:
        """Say whether a regular file is there; a directory that Docker made in its place is not one."""
        found = self.stat(path)
        return found is not None and stat_module.S_ISREG(found.st_mode)

    def is_dir(self, path: str) -> bool:
        """Say whether a directory is there."""
        found = self.stat(path)
        return found is not None and stat_module.S_ISDIR(found.st_mode)

    def read_text(self, path: str) -> Optional[str]:
        """Return a text file's content (undecodable bytes replaced), or None where no file is."""
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def starts_with(self, path: str, header: bytes) -> bool:
        """Say whether a file's first bytes are these."""
        with open(path, "rb") as stream:
            return stream.read(len(header)) == header

    def list_dir(self, path: str) -> List[str]:
        """Return the sorted names in a directory; none where it is absent."""
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk_files(self, root: str) -> Iterator[Tuple[str, os.stat_result]]:
        """Yield (path relative to root, stat) of every regular file below root, sorted; links to files count."""
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                found = self.stat(path)
                if found is not None and stat_module.S_ISREG(found.st_mode):
                    yield os.path.relpath(path, root), found

    def sha256(self, path: str) -> str:
        """Return the hexadecimal SHA-256 of a file's bytes."""
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(HASH_CHUNK), b""):
                digest.update(chunk)
        return digest.hexdigest()

    def sha256_of(self, paths: Sequence[str], seconds: float = math.inf) -> Dict[str, str]:
        """Return path -> SHA-256, several read at once.

        After `seconds` no further file is begun, and those are left out; the first is always there.
        """
        until = time.monotonic() + seconds

        def hashed(path: str) -> str:
            return self.sha256(path) if path == paths[0] or time.monotonic() < until else ""

        return {path: digest for path, digest in zip(paths, side_by_side(hashed, paths)) if digest}

    def read_link(self, path: str) -> Optional[str]:
        """Return where a symbolic link points, or None where no link is."""
        try:
            return os.readlink(path)
        except OSError:
            return None

    def free_bytes(self, path: str) -> int:
        """Return the bytes free to this user on the file system that holds the path or its nearest existing parent."""
        while not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    # Writing

    def make_dirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents where they are absent; their modes are also subject to the umask (entry.py)."""
        try:
            os.makedirs(path, mode=mode, exist_ok=True)
        except OSError as error:
            raise FleetError(
                f"Directory {path} cannot be made ({error.strerror}).", "Check the path, its owner and its mode."
            ) from error

    def let_in(self, path: str) -> None:
        """Let every user enter and list a directory of this user; one of somebody else is left as it is."""
        found = os.stat(path)
        if found.st_uid == os.geteuid() and found.st_mode & 0o055 != 0o055:
            os.chmod(path, stat_module.S_IMODE(found.st_mode) | 0o055)

    def write_text(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file whole or not at all: a temporary sibling that replaces the old one."""
        self.make_dirs(os.path.dirname(path))
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def rename(self, source: str, target: str) -> None:
        """Rename within one file system; an existing file is replaced."""
        os.replace(source, target)

    def point(self, link: str, target: str) -> None:
        """Switch a symbolic link to `target` atomically."""
        temporary = f"{link}.new-{os.getpid()}"
        os.symlink(target, temporary)
        os.replace(temporary, link)

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Hold a lock file, waiting for whoever holds it; the system lets go of it when that process ends, however it ends."""
        self.make_dirs(os.path.dirname(path))
        with open(path, "a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def remove(self, path: str) -> None:
        """Remove a file, a link or a whole directory; absent is fine."""
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)


class Container(Runner):
    """A running container: commands go through `docker exec`, after the environment scripts its image needs.

    The images set their environment in scripts (set_env.sh) and not in the image's configuration, so a plain `docker exec` has
    none of it; every command is started by a shell that has sourced them. Its umask is the modules' own (entry.py), whatever the
    engine or such a script set: other hosts fetch what is made here.
    """

    # A missing script is named, instead of the confusing TypeError that an unset ASCEND_HOME_PATH gives much later.
    _LAUNCH = (
        'for script in $FLEET_ENV_SCRIPTS; do [ -r "$script" ] || { echo "environment script $script is not there" >&2; exit 120; }; '
        '. "$script" >/dev/null || exit 121; done; umask 022; exec "$@"'
    )

    def __init__(self, host: Host, name: str, env_scripts: Sequence[str] = (), cli: str = "docker") -> None:
        self.host = host
        self.name = name
        self.env_scripts = list(env_scripts)
        self.cli = cli

    def command(
        self,
        argv: Sequence[str],
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        detach: bool = False,
        interactive: bool = False,
    ) -> List[str]:
        """Return the argument list that starts `argv` in the container."""
        line = [self.cli, "exec"]
        line += ["--detach"] if detach else []
        line += ["--interactive"] if interactive else []
        line += ["--workdir", cwd] if cwd else []
        values = {"LC_ALL": "C.UTF-8", "FLEET_ENV_SCRIPTS": " ".join(self.env_scripts), **(env or {})}
        for key in sorted(values):
            line += ["--env", f"{key}={values[key]}"]
        return [*line, self.name, "bash", "-c", self._LAUNCH, "fleet", *argv]

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: Optional[float] = None,
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: Optional[str] = None,
        remedy: str = "",
    ) -> Completed:
        line = self.command(argv, env, cwd, interactive=stdin is not None)
        done = self.host.run(line, check=False, timeout=timeout, stdin=stdin, remedy=remedy)
        if check and done.rc != 0:
            raise CommandError(
                argv, done.rc, done.stdout, done.stderr, f"in container {self.name} ended with status {done.rc}", remedy
            )
        return done._replace(argv=list(argv))

    def start(self, argv: Sequence[str], env: Optional[Dict[str, str]] = None, cwd: Optional[str] = None) -> None:
        """Start a program in the container that goes on after this call and after the ssh connection."""
        self.host.run(self.command(argv, env, cwd, detach=True))


def _finish(
    process: subprocess.Popen[bytes], argv: Sequence[str], stdin: Optional[str], timeout: Optional[float], remedy: str
) -> Tuple[int, str, str]:
    """Wait for a process; on time-out end its whole session, since a hung tool often hangs in a child."""
    data = stdin.encode() if stdin is not None else None
    try:
        stdout, stderr = process.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        ended, stdout, stderr = _last_words(process)
        message = f"did not answer within {timeout:g} s and {ended}"
        raise CommandError(argv, None, _text(stdout), _text(stderr), message, remedy) from None
    return process.returncode, _text(stdout), _text(stderr)


def _last_words(process: subprocess.Popen[bytes]) -> Tuple[str, bytes, bytes]:
    """Return how a killed process ended and what it had said, without waiting for ever.

    One that waits in a driver ends when the driver lets it, and a child in a session of its own keeps the pipes open.
    """
    try:
        return ("was ended", *process.communicate(timeout=SECONDS_TO_END))
    except subprocess.TimeoutExpired:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        ended = "was ended" if process.poll() is not None else "does not end when killed, as it waits in the kernel"
        return ended, b"", b""


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
