# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal has to show, read from the rehearsal's hosts and printed as a table: `python -m lab.rehearsal proof`.

`python -m lab.rehearsal facts` prints what its run yielded, in the form of tests/data/rehearsal; `python -m lab.rehearsal sources`
only says whether the real repositories can be had, before anything long begins.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from lab import keys, real_upstream, rehearsal_facts, up
from lab.shell import LabError

HOSTS = ("npu-1", "npu-2")
CONVERSION_HOST, LAST_HOST = HOSTS
WORK_ROOT = "/data/ascend-fleet"
CONTAINER = "LLM-2025-rc1"
ENVIRONMENT = ("/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/nnal/atb/set_env.sh")
TOLERANCE = 1e-3  # nats per token
ENGINES = ("native", "upstream")


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    claim: str
    found: str
    holds: bool


def on_host(host: str, *words: str) -> str:
    """Run a command on a host of the rehearsal; LabError when it fails."""
    known = up.ADDRESSES / host
    if not known.is_file():
        raise LabError(f"{host} has no address: the rehearsal's hosts are not up; run `make rehearse UPSTREAM=...`")
    address = known.read_text(encoding="utf-8").strip()
    argv = ["ssh", *keys.ssh_arguments(), f"root@{address}", shlex.join(words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            f"{host}: `{shlex.join(words)}` ended with status {done.returncode}: {done.stderr.strip()[-800:]}"
        )
    return done.stdout


def worker(program: str, *words: str) -> dict[str, Any]:
    """Run a program of workers/ in the conversion host's container; return its JSON."""
    sourced = "; ".join([*(f"source {script}" for script in ENVIRONMENT), 'exec "$@"'])
    inner = ["python", f"{WORK_ROOT}/workers/{program}", *words, "--json"]
    printed = on_host(CONVERSION_HOST, "docker", "exec", CONTAINER, "bash", "-c", sourced, "--", *inner)
    answer: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return answer


def receipts(host: str, stage: str) -> list[dict[str, Any]]:
    """The receipts of a stage on a host, newest last, each with its `directory`."""
    place = f"{WORK_ROOT}/{stage}"
    names = on_host(
        host, "find", place, "-mindepth", "2", "-maxdepth", "2", "-name", "receipt.json", "-printf", "%T@ %p\n"
    )
    found = []
    for path in sorted(line.split(" ", 1)[1] for line in names.splitlines() if "/current/" not in line):
        found.append({**json.loads(on_host(host, "cat", path)), "directory": path.rpartition("/")[0]})
    return found


def current(host: str, stage: str) -> dict[str, Any]:
    """The receipt in use."""
    receipt: dict[str, Any] = json.loads(on_host(host, "cat", f"{WORK_ROOT}/{stage}/current/receipt.json"))
    return receipt


def by_engine(stage: str) -> dict[str, dict[str, Any]]:
    """The conversion host's results of a stage by the engine that made them."""
    made = {str(one["made_with"]["engine"]).partition(":")[0]: one for one in receipts(CONVERSION_HOST, stage)}
    missing = [engine for engine in ENGINES if engine not in made]
    if missing:
        raise LabError(f"no {stage} of the {missing[0]} engine is on {CONVERSION_HOST}; run `make rehearse` as a whole")
    return made


def commits() -> Finding:
    """The trees of both hosts are at the commits of the release row."""
    wanted = {source.name: source.commit for source in real_upstream.sources()}
    found = [
        json.loads(on_host(host, "cat", f"{WORK_ROOT}/source/receipt.json"))["inputs"]["commits"] for host in HOSTS
    ]
    shown = ", ".join(f"{name} {commit[:12]}" for name, commit in wanted.items())
    return Finding(
        f"sources of release {real_upstream.RELEASE} on {len(HOSTS)} hosts", shown, found == [wanted] * len(HOSTS)
    )


def conversion() -> Finding:
    """Native and upstream's conversion agree tensor for tensor."""
    made = by_engine("checkpoint")
    looked = {engine: worker("convert_checkpoint.py", "inspect", made[engine]["directory"]) for engine in ENGINES}
    tensors = {
        engine: {
            (file, key): (tensor["shape"], tensor["dtype"], tensor["sha256"])
            for file, one in looked[engine]["files"].items()
            for key, tensor in one["tensors"].items()
        }
        for engine in ENGINES
    }
    same = tensors["native"] == tensors["upstream"]
    count = len(tensors["native"])
    differing = sum(tensors["upstream"].get(key) != value for key, value in tensors["native"].items())
    shown = f"{count} tensors in {len(looked['native']['files'])} shards, {differing} differ"
    return Finding("native conversion is convert_ckpt.py's, tensor for tensor", shown, same and count > 0)


def dataset() -> Finding:
    """Native and upstream's datasets agree byte for byte."""
    made = by_engine("dataset")
    hashes = {engine: _pairs(made[engine]["directory"]) for engine in ENGINES}
    shown = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(hashes["native"].items()))
    return Finding(
        "native dataset is preprocess_data.py's, byte for byte",
        shown,
        hashes["native"] == hashes["upstream"] and len(hashes["native"]) >= 2,
    )


def _pairs(directory: str) -> dict[str, str]:
    """Hash the token files of a dataset on the conversion host."""
    names = on_host(CONVERSION_HOST, "find", directory, "-maxdepth", "1", "-name", "*.bin", "-o", "-name", "*.idx")
    summed = on_host(CONVERSION_HOST, "sha256sum", *sorted(names.split()))
    return {path.rpartition("/")[2]: digest for digest, path in (line.split() for line in summed.splitlines())}


def training() -> list[Finding]:
    """The real trainer loaded the weights, began with the model's own loss, and learned."""
    status = json.loads(on_host(LAST_HOST, "cat", f"{WORK_ROOT}/run/current/status-{HOSTS.index(LAST_HOST)}.json"))
    expected = float(current(CONVERSION_HOST, "reference")["made_with"]["loss"])
    (_, first), (number, last) = status["losses"][0], status["losses"][-1]
    ended = status["state"] == "succeeded" and number == status["iterations"]
    near = abs(first - expected) <= TOLERANCE
    return [
        Finding(
            "first loss is the Hugging Face model's", _beside(first, expected), near and status["loaded_checkpoint"]
        ),
        Finding(
            f"{status['iterations']} iterations of pretrain_gpt.py",
            f"loss {first:.4f} to {last:.4f}",
            ended and last < first,
        ),
    ]


def exported() -> Finding:
    """The exported model's loss on a batch is the one that the trainer logged for it with the same weights.

    The exported iteration is not the last one, so that the trainer went on from these weights and logged their loss.
    """
    receipt = current(CONVERSION_HOST, "export")
    after = int(receipt["inputs"]["iteration"])
    inputs = current(CONVERSION_HOST, "reference")["inputs"]
    words = ["--model", _model_directory(receipt), "--data-prefix", f"{WORK_ROOT}/dataset/current/{inputs['prefix']}"]
    for option, key in (
        ("--seq-length", "seq_length"),
        ("--global-batch-size", "global_batch_size"),
        ("--micro-batch-size", "micro_batch_size"),
        ("--train-iters", "iterations"),
        ("--seed", "seed"),
        ("--split", "split"),
        ("--padded-vocab-size", "padded_vocab"),
    ):
        words += [option, str(inputs[key])]
    own = worker("reference_loss.py", *words, "--skip-batches", str(after), "--device", "cpu")["loss"]
    status = json.loads(on_host(LAST_HOST, "cat", f"{WORK_ROOT}/run/current/status-{HOSTS.index(LAST_HOST)}.json"))
    logged = dict(status["losses"])[after + 1]
    near = abs(own - logged) <= TOLERANCE
    return Finding(f"model exported after iteration {after} has the trainer's loss", _beside(own, logged), near)


def _model_directory(receipt: dict[str, Any]) -> str:
    return f"{WORK_ROOT}/export/{receipt['fingerprint']}"


def _beside(found: float, expected: float) -> str:
    return f"{found:.5f} and {expected:.5f}, {abs(found - expected):.5f} apart"


def table(findings: list[Finding]) -> str:
    """The findings as lines of text."""
    width = max(len(finding.claim) for finding in findings)
    return "\n".join(f"{'ok' if one.holds else 'NOT':3}  {one.claim.ljust(width)}  {one.found}" for one in findings)


def prove() -> int:
    """Print the table; 0 if everything holds."""
    findings = [commits(), conversion(), dataset(), *training(), exported()]
    print(table(findings))
    return 0 if all(finding.holds for finding in findings) else 1


def facts() -> dict[str, Any]:
    """What the run in use is of and what it yielded; also of the usual lab, whose stand-in trainer is compared by it."""
    run = current(LAST_HOST, "run")
    weights = current(CONVERSION_HOST, "checkpoint")["parents"]["weights"]
    return {
        "commits": json.loads(on_host(LAST_HOST, "cat", f"{WORK_ROOT}/source/receipt.json"))["inputs"]["commits"],
        "parents": {"weights": weights, **{stage: run["parents"][stage] for stage in ("checkpoint", "dataset")}},
        "reference_loss": current(CONVERSION_HOST, "reference")["made_with"]["loss"],
        **rehearsal_facts.gather(on_host, HOSTS, WORK_ROOT),
    }


def look_for_sources() -> int:
    """Say whether the repositories are in the cache or can be fetched."""
    piece = real_upstream.piece()
    if not piece.directory.is_dir():
        for source in real_upstream.sources():
            real_upstream.locate(source, real_upstream.named())
    return 0


def main() -> int:
    """Do what the command line asks; a LabError becomes a message and status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.rehearsal", description="The rehearsal with the real repositories."
    )
    parser.add_argument("what", choices=["sources", "proof", "facts"])
    try:
        what = parser.parse_args().what
        if what == "facts":
            print(json.dumps(facts(), indent=1))
            return 0
        return prove() if what == "proof" else look_for_sources()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
