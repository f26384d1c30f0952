# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, through ansible-playbook itself: kept from its first task on, written however the run ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, load_plugin
from tests.unit.report import given

callback = load_plugin("callback/fleet_report.py")

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - include_role: {{name: run_report, tasks_from: begin.yml}}
      run_once: true
- name: Plan it
  hosts: all
  gather_facts: false
  tags: [plan, always]
  tasks:
    - set_fact: {{fleet_plan: "{{{{ lookup('file', '{plan}') | from_json }}}}"}}
- name: Do it
  hosts: all
  gather_facts: false
  tags: [work]
  tasks:
    - name: Make a mark
      copy: {{content: x, dest: "{marks}/{{{{ inventory_hostname }}}}", mode: "0600"}}
    - name: Look at the disk
      fail: {{msg: "No space left on device /data"}}
      when: inventory_hostname in (broken | default([]))
"""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_timeline_counts_each_task_once() -> None:
    clock = Clock()
    times = callback.Timeline(clock)
    times.end("npu-1", "0", "before any play", "ok")
    times.play("Nobody", [])
    times.play("Do it", ["work"])
    for host, how, seconds in (("npu-1", "changed", 5.0), ("npu-2", "failed", 2.0)):
        clock.now = 110.0
        times.begin(host, "1")
        clock.now += seconds
        times.end(host, "1", "Copy", how)
    clock.now = 130.0
    times.begin("npu-1", "2")
    clock.now = 131.0
    times.end("npu-1", "2", "Look", "skipped")
    told = times.as_dict()
    assert (told["started"], told["ended"], told["changed"]) == (100.0, 131.0, 1)
    (play,) = told["plays"]
    one, two = play["hosts"]["npu-1"], play["hosts"]["npu-2"]
    assert (one["started"], one["ended"], one["slowest"]) == (110.0, 131.0, ["Copy", 5.0])
    assert (one["ok"], one["changed"], one["skipped"], two["failed"]) == (0, 1, 1, 1)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A playbook that announces a report, plans and works on two hosts that are this machine."""
    (tmp_path / "plan.json").write_text(json.dumps(given.small_plan()), encoding="utf-8")
    (tmp_path / "marks").mkdir()
    text = PLAYBOOK.format(plan=tmp_path / "plan.json", marks=tmp_path / "marks")
    (tmp_path / "site.yml").write_text(text, encoding="utf-8")
    hosts = {
        name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        for name in ("npu-1", "npu-2")
    }
    variables = {
        "report_output": str(tmp_path / "out" / "report.html"),
        "ascend_work_root": "/data",
        "training_hosts": [],
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
    return tmp_path


def run(site: Path, *arguments: str, **variables: Any) -> dict[str, Any] | None:
    """Run the playbook; return the report's data, None where there is none."""
    argv = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(site / "hosts.json"),
        str(site / "site.yml"),
        *arguments,
    ]
    subprocess.run(
        [*argv, "-e", json.dumps(variables)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    data = site / "out" / "report.json"
    return json.loads(data.read_text()) if data.exists() else None


def test_a_run_is_kept_and_a_quiet_one_does_not_hide_it(site: Path) -> None:
    first = run(site)
    assert first is not None
    assert first["plan"]["is"] == given.small_plan()
    told = first["run"]["is"]
    assert [play["name"] for play in told["plays"]] == ["Plan it", "Do it"], "the announcement is no stage"
    assert [play["hosts"]["npu-2"]["changed"] for play in told["plays"]] == [0, 1]
    assert told["problems"] == []
    page = (site / "out" / "report.html").read_text()
    assert "Do it" in page
    second = run(site)
    assert second is not None
    assert second["run"]["is"]["changed"] == 0
    assert second["worked"] == first["run"], "the times of the run that did the work stay"


def test_a_failed_run_has_a_report_too(site: Path) -> None:
    data = run(site, broken=["npu-2"])
    assert data is not None
    told = data["run"]["is"]
    assert told["failed_in"] == ["Do it"]
    (problem,) = told["problems"]
    assert problem["hosts"] == ["npu-2"]
    assert "df -h" in problem["remedy"]
    page = (site / "out" / "report.html").read_text()
    assert "Failed in stage “Do it”" in page
    assert "No space left on device /data" in page


def test_a_plan_that_was_refused_takes_the_old_one_out_of_the_report(site: Path) -> None:
    assert run(site) is not None
    (site / "plan.json").unlink()
    data = run(site)
    assert data is not None
    assert data["plan"]["is"] == {}
    assert data["run"]["is"]["failed_in"] == ["Plan it"]


def test_check_mode_writes_nothing(site: Path) -> None:
    assert run(site, "--check") is None
    assert not (site / "out").exists()


def test_without_an_announcement_the_last_report_stays(site: Path) -> None:
    before = run(site)
    text = (site / "site.yml").read_text()
    (site / "site.yml").write_text("- name: Plan it" + text.split("- name: Plan it")[1])
    assert run(site) == before


def test_the_role_writes_the_page_where_no_callback_is_enabled(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a program that brings callbacks of its own: all but the times is there."""
    (site / "hosts-piece.json").write_text(json.dumps(given.hosts_piece(["npu-1", "npu-2"])), encoding="utf-8")
    pieces = f"{{{{ {{'hosts': lookup('file', '{site}/hosts-piece.json') | from_json}} }}}}"
    task = {"report_file": {"report": "{{ report_output }}", "pieces": pieces}, "run_once": True}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
    (site / "site.yml").write_text(json.dumps(play), encoding="utf-8")
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "fleet_problems")
    data = run(site)
    assert data is not None
    assert set(data) == {"format", "hosts"}
    page = (site / "out" / "report.html").read_text()
    assert 'class="loss"' in page
    assert "The times of this run are not known" in page


def test_data_of_another_version_are_not_read(site: Path) -> None:
    (site / "out").mkdir()
    (site / "out" / "report.json").write_text(
        '{"format": -1, "drivers": {"at": 1, "is": "nobody knows"}}', encoding="utf-8"
    )
    data = run(site)
    assert data is not None
    assert "drivers" not in data
