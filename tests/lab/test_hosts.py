# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts as a user meets them: reachable only as meant, left alone when right, repaired when not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import keys
from lab.shell import CLONE, LAB
from tests.lab.conftest import Shell, lab

pytestmark = pytest.mark.docker
HOSTS = ("staging-1", "npu-1", "npu-2")


def containers() -> dict[str, str]:
    """Container id of every lab host."""
    argv = [
        "docker",
        "ps",
        "--no-trunc",
        "--filter",
        f"label=ascend-lab.clone={CLONE}",
        "--format",
        "{{.Names}} {{.ID}}",
    ]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in listed.splitlines())


def test_a_lab_that_is_right_is_left_alone(fleet: None) -> None:
    before = containers()
    assert sorted(before) == sorted(f"{LAB}-{name}" for name in HOSTS)
    assert "already up" in lab("up")
    assert containers() == before


def test_a_missing_host_is_made_again_and_the_others_stay(fleet: None) -> None:
    before = containers()
    subprocess.run(["docker", "rm", "--force", f"{LAB}-staging-1"], check=True, capture_output=True)
    assert "starting staging-1\n" in lab("up")
    after = containers()
    assert after.pop(f"{LAB}-staging-1") != before.pop(f"{LAB}-staging-1")
    assert after == before


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_answer_by_name_without_a_route_out(shell: Shell, host: str) -> None:
    done = shell(host, "hostname; ip route show default; getent hosts staging-1 npu-1 npu-2 | wc -l")
    assert done.stdout.split() == [host, "3"]


def test_an_unknown_host_key_is_refused(shell: Shell, tmp_path: Path) -> None:
    address = (keys.STATE / "address" / "npu-1").read_text(encoding="utf-8").strip()
    others = keys.known_hosts_text({"npu-2": address})  # npu-2's key under npu-1's address
    (tmp_path / "known_hosts").write_text(others, encoding="utf-8")
    arguments = [word.replace(str(keys.KNOWN_HOSTS), str(tmp_path / "known_hosts")) for word in keys.ssh_arguments()]
    done = subprocess.run(["ssh", *arguments, f"root@{address}", "true"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Host key verification failed" in done.stderr


def test_no_host_may_log_in_to_another(shell: Shell) -> None:
    ask = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@{} true"
    for source, target in (("npu-1", "staging-1"), ("npu-1", "npu-2"), ("staging-1", "npu-1")):
        done = shell(source, ask.format(target), check=False)
        assert done.returncode != 0
        assert "Permission denied" in done.stderr


def test_every_server_has_an_engine_of_its_own(shell: Shell) -> None:
    found = {shell(host, "docker info --format '{{.ID}} {{.Driver}}'").stdout.strip() for host in HOSTS[1:]}
    assert len(found) == 2
    assert {line.split()[1] for line in found} == {"overlay2"}
    assert shell("staging-1", "command -v docker", check=False).returncode != 0


def test_servers_have_no_git_and_no_rights_of_the_machine(shell: Shell) -> None:
    done = shell("npu-1", "command -v git || echo none; grep CapEff /proc/1/status")
    assert done.stdout.splitlines()[0] == "none"
    assert not int(done.stdout.split()[-1], 16) & (1 << 24)  # CAP_SYS_RESOURCE


def test_staging_holds_everything_as_an_ordinary_users_files(shell: Shell) -> None:
    script = """
    cd /srv/ascend
    find . ! -user keeper | wc -l
    find . -type l | wc -l
    stat -c %s images/mindspeed-llm-2025.rc1-lab.tar
    wc -l < datasets/lab-900.jsonl
    ls models/qwen2-lab/*.safetensors | wc -l
    for repository in MindSpeed-LLM=2.0.0 MindSpeed=2.0.0_core_r0.8.0 Megatron-LM=core_r0.8.0; do
        su keeper -c "git -C git/${repository%=*}.git rev-parse --verify refs/heads/${repository#*=}"
    done
    """
    strangers, links, size, lines, shards, *commits = shell("staging-1", script).stdout.split()
    assert (strangers, links, lines) == ("0", "0", "900")
    assert int(size) > 100e6
    assert int(shards) > 1
    assert [len(commit) for commit in commits] == [40, 40, 40]
