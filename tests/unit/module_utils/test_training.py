# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the training stage: what all hosts decide together, arguments, checkpoints, words."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.errors import ProblemsError, RefusedError
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.training_bring import lacking, parcels
from ansible.module_utils.ascend_fleet.training_decide import decide
from ansible.module_utils.ascend_fleet.training_inputs import differing, option, resolve, resumed
from ansible.module_utils.ascend_fleet.training_look import Look
from ansible.module_utils.ascend_fleet.training_ports import listening_inodes, taken_ports
from ansible.module_utils.ascend_fleet.training_saved import (
    complete_over_writers,
    loadable,
    saved,
    whole,
    write_tracker,
)
from ansible.module_utils.ascend_fleet.training_status import duration, in_words, is_locked
from hypothesis import given
from hypothesis import strategies as st

A = Look("a", 0, "absent", "f", {"lr": 1}, needed=["s0"], writes=["s0"])
B = Look("b", 1, "absent", "f", {"lr": 1}, needed=["s1"], writes=["s1"])


def at(look: Look, state: str, **changes: object) -> Look:
    alive = state in ("starting", "running", "ending")
    return replace(look, state=state, alive=alive, attempt=1, **changes)  # type: ignore[arg-type]


def test_nothing_there_starts() -> None:
    assert (decide([A, B]).action, decide([A, B]).attempt) == ("start", 1)


@pytest.mark.parametrize("state", ["starting", "running", "finished", "succeeded"])
def test_what_goes_on_or_is_done_is_left_alone(state: str) -> None:
    assert decide([at(A, state), at(B, state)], new_run=True).action == "none"


def test_a_host_that_missed_the_start_joins() -> None:
    found = decide([at(A, "starting", start=40), B])
    assert (found.action, found.attempt, found.start) == ("join", 1, 40)


@pytest.mark.parametrize("state", ["running", "ending"])
def test_a_run_that_is_ending_is_not_joined(state: str) -> None:
    with pytest.raises(RefusedError, match="coming to its end"):
        decide([at(A, state), at(B, "crashed")])


def test_it_resumes_where_all_hosts_have_everything() -> None:
    a = at(A, "failed", saved={"10": ["s0"], "20": ["s0"], "30": ["s0"]})
    b = at(B, "crashed", saved={"10": ["s1"], "20": ["s1"], "30": []})
    found = decide([a, replace(b, attempt=2)])
    assert (found.action, found.start, found.attempt) == ("resume", 20, 3)


def test_a_shard_that_its_writer_lacks_is_named_wherever_else_it_is() -> None:
    a = at(A, "failed", saved={"10": ["s0"]}, others={"10": ["s1"]})
    with pytest.raises(RefusedError, match="of iteration 10: b lacks s1"):
        decide([a, at(B, "failed")])
    assert decide([a, at(B, "failed")], new_run=True).aside


# Data parallelism over a, b and c: all load s0, a writes it.
TWINS = [Look(name, rank, "absent", "f", {"lr": 1}, needed=["s0"]) for rank, name in enumerate("abc")]
WRITER, TWIN, LATE = replace(TWINS[0], writes=["s0"], save="/a/run/f/checkpoints"), TWINS[1], TWINS[2]


def test_a_run_with_data_parallelism_is_resumed_over_its_writers() -> None:
    looks = [at(WRITER, "failed", saved={"10": ["s0"]}), at(TWIN, "failed"), at(LATE, "failed", others={"10": ["s0"]})]
    found = decide(looks)
    assert (found.action, found.start) == ("resume", 10)
    assert lacking(looks, found) == {"b": {"a": ["s0"]}}
    (parcel,) = parcels([item.as_dict() for item in looks], False)["b"]
    assert parcel == {
        "from": "a",
        "source": "/a/run/f/checkpoints/iter_0000010",
        "stage": "resumed/f/iter_0000010/a",
        "patterns": ["s0/model_optim_rng.pt"],
    }


def test_who_joins_a_resumed_run_gets_the_shards_as_well() -> None:
    looks = [at(WRITER, "starting", start=10, saved={"10": ["s0"]}), at(TWIN, "failed"), at(LATE, "starting", start=10)]
    looks[2] = replace(looks[2], others={"10": ["s0"]})
    assert lacking(looks, decide(looks)) == {"b": {"a": ["s0"]}}


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [WRITER, TWIN],
        [at(WRITER, "running", saved={"10": ["s0"]}), at(TWIN, "running")],
        [at(WRITER, "failed", saved={"10": ["s0"]}), at(TWIN, "failed", others={"10": ["s0"]})],
        [at(WRITER, "failed"), at(TWIN, "failed", others={"10": ["s0"]})],
        [at(WRITER, "failed", saved={"10": ["s0"]}), at(TWIN, "failed", problems=["no container"])],
    ],
    ids=["none", "start", "runs", "all there", "writer lost it", "problem"],
)
def test_nothing_travels_where_nothing_is_lacking_or_nothing_starts(looks: list[Look]) -> None:
    assert parcels([item.as_dict() for item in looks], False) == {}


def test_a_copy_is_not_started_over_when_the_writer_lost_its_own() -> None:
    with pytest.raises(RefusedError, match="of iteration 10: a lacks s0"):
        decide([WRITER, at(TWIN, "failed", others={"10": ["s0"]})])


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_run_that_lives_in_another_order_is_never_joined(state: str) -> None:
    a, b = at(A, state, order=["b", "a"]), at(B, state, order=["b", "a"])
    for looks in ([a, b], [a, B], [A, b]):
        for new_run in (False, True):
            with pytest.raises(RefusedError, match="in the order b, a; the plan has a, b") as caught:
                decide(looks, new_run)
            assert "stop-training.yml" in caught.value.remedy


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("failed", {"saved": {"10": ["s0"]}}),
        ("crashed", {"others": {"10": ["s1"]}}),
        ("succeeded", {}),
    ],
)
def test_what_was_made_in_another_order_is_not_started_over(state: str, kept: dict[str, object]) -> None:
    looks = [at(A, state, order=["b", "a"], **kept), at(B, state, order=["b", "a"])]
    with pytest.raises(RefusedError, match=f"a {state}.* in the order b, a.* the plan has a, b") as caught:
        decide(looks)
    assert "Put training_hosts back in that order" in caught.value.remedy
    assert "pretraining_new_run: true" in caught.value.remedy
    found = decide(looks, new_run=True)
    assert (found.action, found.aside, found.attempt) == ("start", True, 2)


def test_another_order_of_nothing_is_nobodys_loss() -> None:
    looks = [at(A, "failed", order=["b", "a"]), at(B, "failed", order=["b", "a"])]
    assert (decide(looks).action, decide(looks).attempt) == ("start", 2)
    assert decide([at(item, "finished", order=["b", "a"]) for item in (A, B)]).action == "none"


def test_a_host_that_was_replaced_moves_nobody() -> None:
    a = at(WRITER, "failed", saved={"10": ["s0"]}, order=["a", "z"])
    assert decide([a, TWIN]).start == 10
    with pytest.raises(RefusedError, match="in the order a, z"):
        decide([at(a, "running"), TWIN])
    renamed = [at(a, "running"), at(TWIN, "running")]
    assert decide(renamed).action == "none"


@pytest.mark.parametrize("kept", [{"saved": {"10": ["s0"]}}, {"others": {"10": ["s1"]}}])
def test_what_is_saved_is_never_started_over_although_nobody_knows_of_a_start(kept: dict[str, object]) -> None:
    looks = [replace(A, **kept), B]  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="no checkpoint is complete"):
        decide(looks)
    assert decide(looks, new_run=True).aside


def test_nothing_saved_starts_anew_even_where_it_could_not_be_resumed() -> None:
    found = decide([at(A, "failed", resumable=False), at(B, "failed", resumable=False, saved={"10": []})])
    assert (found.action, found.aside) == ("start", False)


def test_problems_of_all_hosts_are_named_together() -> None:
    with pytest.raises(ProblemsError) as caught:
        decide([replace(A, problems=["x"]), replace(B, problems=["y"])])
    assert caught.value.details["problems"] == ["a: x", "b: y"]


def test_another_run_on_one_host_is_enough_to_refuse() -> None:
    other = {
        "fingerprint": "g",
        "state": "finished",
        "alive": False,
        "inputs": {"lr": 2},
        "progress": "",
        "holds_work": True,
    }
    with pytest.raises(RefusedError, match="lr: 2 -> 1") as caught:
        decide([A, replace(B, other=other)])
    assert caught.value.details["diff"]["before"] == {"lr": 2}
    assert decide([A, replace(B, other=other)], new_run=True).action == "start"
    with pytest.raises(RefusedError, match="goes on b"):
        decide([A, replace(B, other={**other, "alive": True})], new_run=True)


@given(st.permutations([at(A, "failed", saved={"10": ["s0"]}), at(B, "failed", saved={"10": ["s1"]})]))
def test_the_order_of_hosts_does_not_matter(looks: list[Look]) -> None:
    assert decide(looks).start == 10


def test_a_look_survives_its_way_through_yaml() -> None:
    assert Look.from_dict({**A.as_dict(), "unknown": 1}) == A


def test_links_are_resolved_and_nothing_else() -> None:
    found = resolve(
        ["/w/run/current/x", "/w/run/current", "/w/run/currently", "/x/run/current", "3"], "/w", {"run": "f"}
    )
    assert found == ["/w/run/f/x", "/w/run/f", "/w/run/currently", "/x/run/current", "3"]


def test_options() -> None:
    line = ["--lr", "1", "--lr", "2", "--seed=7", "--flag"]
    assert (option(line, "--lr"), option(line, "--seed"), option(line, "--flag"), option(line, "--no")) == (
        "2",
        "7",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--load", "/c", "--lr", "1"], ["--lr", "1", "--load", "/s"]),
        (["--load=/c", "--finetune", "--no-load-optim", "--no-load-rng"], ["--load", "/s"]),
        (["--no-load-rng", "--no-save-rng"], ["--no-load-rng", "--no-save-rng", "--load", "/s"]),
    ],
)
def test_arguments_of_a_resumed_run(before: list[str], after: list[str]) -> None:
    assert resumed(before, "/s") == after


def test_differences_are_named_one_by_one() -> None:
    old = {"arguments": ["--lr", "1", "--bf16"], "world": {"tp": 2, "pp": 2}, "checkpoint": "a"}
    new = {"arguments": ["--lr", "2", "--seed", "1"], "world": {"tp": 1, "pp": 2}, "checkpoint": "a"}
    assert differing(old, new) == [
        "--bf16: given -> absent",
        "--lr: 1 -> 2",
        "--seed: absent -> 1",
        "world.tp: 2 -> 1",
    ]
    assert differing(new, new) == []


def archive(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 100)
    return path


def test_whole_files(tmp_path: Path) -> None:
    host, good = Host(), archive(tmp_path / "good.pt")
    assert whole(host, str(good))
    old = tmp_path / "old.pt"
    old.write_bytes(b"\x80\x02...")
    assert whole(host, str(old))
    for size in (0, 1, 50, good.stat().st_size - 1):
        cut = tmp_path / f"cut-{size}.pt"
        cut.write_bytes(good.read_bytes()[:size])
        assert not whole(host, str(cut)), size
    assert not whole(host, str(tmp_path / "absent.pt"))
    assert not whole(host, str(tmp_path))


def test_a_shard_needs_all_of_its_files(tmp_path: Path) -> None:
    for shard in ("mp_rank_00", "mp_rank_01"):
        archive(tmp_path / "iter_0000010" / shard / "model_optim_rng.pt")
    archive(tmp_path / "iter_0000010" / "mp_rank_01" / "distrib_optim.pt")
    (tmp_path / "iter_x").mkdir()
    assert saved(Host(), str(tmp_path), ["model_optim_rng.pt"]) == {10: ["mp_rank_00", "mp_rank_01"]}
    assert saved(Host(), str(tmp_path), ["model_optim_rng.pt", "distrib_optim.pt"]) == {10: ["mp_rank_01"]}


def test_the_last_iteration_that_all_can_load() -> None:
    both = {"a": {10: ["s0", "s9"], 20: ["s0"]}, "b": {10: ["s1"], 20: []}}
    own = {"a": ["s0"], "b": ["s1"]}
    assert complete_over_writers(both, own, own) == 10
    assert complete_over_writers(both, own, {"a": ["s0"], "b": ["s0"]}) == 20
    assert complete_over_writers(both, own, {"a": ["s0"], "b": ["s2"]}) is None
    assert complete_over_writers(both, own, {"a": ["s9"], "b": ["s1"]}) is None, "a copy that nobody vouches for"
    assert complete_over_writers({"a": {}}, own, {"a": ["s0"]}) is None


def test_what_can_be_loaded(tmp_path: Path) -> None:
    host, folder = Host(), str(tmp_path)
    assert "random weights" in loadable(host, folder, [])[0]
    write_tracker(host, folder, 7)
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "7"
    assert "iter_0000007/s0/model_optim_rng.pt is absent" in loadable(host, folder, ["s0"])[0]
    archive(tmp_path / "iter_0000007" / "s0" / "model_optim_rng.pt")
    assert loadable(host, folder, ["s0"]) == []
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("soon")
    assert "'soon'" in loadable(host, folder, ["s0"])[0]


def test_ports() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1770 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 0100007F:1771 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n"
    )
    assert listening_inodes(table) == {6000: "111"}
    assert listening_inodes("") == {}


def test_a_port_of_this_machine() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert taken_ports(Host(), [port]) == []
        server.listen()
        lines = taken_ports(Host(), [port])
    assert lines[0].startswith(f"port {port} is taken by process ")


def test_a_lock_that_nobody_holds(tmp_path: Path) -> None:
    assert not is_locked(str(tmp_path / "absent"))
    (tmp_path / "lock").touch()
    assert not is_locked(str(tmp_path / "lock"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({}, "absent"),
        ({"state": "starting"}, "starting"),
        ({"state": "failed", "reason": "b did not come."}, "failed: b did not come."),
        ({"state": "running", "iteration": 3, "iterations": 9}, "running: iteration 3 of 9"),
    ],
)
def test_words(status: dict[str, object], text: str) -> None:
    assert in_words(status) == text
