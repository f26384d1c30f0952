# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker engine on a machine whose init system does not start it: started, waited for, and ended again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from say import SetupError, find, run, say, state_directory

START_SECONDS = 60
STOP_SECONDS = 30


def answers() -> bool:
    """True when the engine that the docker command talks to responds."""
    if not find("docker"):
        return False
    argv = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == 0


def start() -> None:
    """Make the engine answer: by the init system where there is one, else as a daemon of our own."""
    if answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise SetupError(
            f"no engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}; start it or unset the variable"
        )
    if os.geteuid():
        raise SetupError(_what_root_has_to_do())
    if Path("/run/systemd/system").is_dir():
        say("starting docker through systemd")
        run(["systemctl", "start", "docker"])
    else:
        _start_daemon()
    _wait_until_it_answers()


def _what_root_has_to_do() -> str:
    """Why the engine does not answer an ordinary user, and what to ask root for."""
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False, timeout=60)
    if "permission denied" in done.stderr.lower():
        name = pwd.getpwuid(os.geteuid()).pw_name
        return f"{name} may not use Docker here; let root run `usermod -aG docker {name}`, log in anew, then run this again"
    return "the Docker engine does not run; let root start it (`systemctl start docker`, or `make setup`), then run this again"


def _start_daemon() -> None:
    program = find("dockerd")
    if program is None:
        raise SetupError("dockerd is not installed; run `make setup`, or install docker.io")
    log = state_directory() / "dockerd.log"
    say(f"no init system starts Docker here: starting dockerd (log: {log})")
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            [program], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    _pid_file().write_text(f"{daemon.pid}\n", encoding="utf-8")


def _wait_until_it_answers() -> None:
    end = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > end:
            raise SetupError(
                f"dockerd does not answer after {START_SECONDS} s; see {state_directory() / 'dockerd.log'}"
            )
        pid = _our_daemon()
        if pid is None and _pid_file().exists():
            raise SetupError(
                f"dockerd ended at once; the reason stands at the end of {state_directory() / 'dockerd.log'}"
            )
        time.sleep(0.3)


def _pid_file() -> Path:
    return state_directory() / "dockerd.pid"


def _our_daemon() -> int | None:
    """The pid of the dockerd that this setup started, if that very process still runs."""
    try:
        pid = int(_pid_file().read_text(encoding="utf-8"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return pid if Path(os.fsdecode(command[0])).name == "dockerd" and state != "Z" else None


def stop() -> None:
    """End the dockerd that this setup started, and no other."""
    pid = _our_daemon()
    if pid is None:
        say("no dockerd that this setup started is running; nothing to stop")
        _pid_file().unlink(missing_ok=True)
        return
    say(f"stopping dockerd (pid {pid})")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while _our_daemon() == pid:
        if time.monotonic() > end:
            raise SetupError(f"dockerd (pid {pid}) did not end within {STOP_SECONDS} s; look at its log")
        time.sleep(0.2)
    shutil.rmtree(state_directory())
