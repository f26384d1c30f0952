# SPDX-License-Identifier: GPL-3.0-or-later
"""Cheap proofs that files are what their names say: they find what would else fail hours later, or silently not at all.

No file is read whole here. What is looked for happens in practice: git-lfs pointers in place of shards, shards whose download was
cut off, an index that names shards nobody copied, an image archive without its end.
"""

from __future__ import annotations

import json
import os
import struct
import tarfile
from fnmatch import fnmatch
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .host import Host
from .manifest import Manifest

LFS_MARK = "version https://git-lfs.github.com/spec/"
LFS_POINTER_LIMIT = 1024  # bytes; a pointer has about 130
HEADER_LIMIT = 100 * 1024 * 1024  # bytes; the limit of the safetensors library itself
TAR_BLOCK = 512  # bytes
MUST_HAVE_CONTENT = ("*.safetensors", "*.bin", "*.pt", "*.tar", "*.json", "*.jsonl", "*.parquet", "*.idx")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHT_FILES = ("*.safetensors",)
PICKLE_FILES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken", "spiece.model", "vocab.txt")


def file_problem(host: Host, path: str, size: int) -> Optional[str]:
    """Say what is wrong with one file, as a sentence that names it and ends with what to do; None for nothing."""
    name = os.path.basename(path)
    if size == 0:
        if any(fnmatch(name, pattern) for pattern in MUST_HAVE_CONTENT):
            return f"{path} is empty: fetch it again"
        return None
    if size < LFS_POINTER_LIMIT and (host.read_text(path) or "").startswith(LFS_MARK):
        return (
            f"{path} is a git-lfs pointer of {size} bytes and not the file itself: "
            "run `git lfs install && git lfs pull` in that clone"
        )
    if name.endswith(".safetensors"):
        return _safetensors_problem(path, size)
    if name.endswith(".tar"):
        return _tar_problem(path, size)
    return None


def index_problems(host: Host, root: str, manifest: Manifest) -> List[str]:
    """Compare the index of sharded weights with the shards that are there."""
    problems: List[str] = []
    for name in INDEXES:
        if name in manifest.files:
            problems += _index_problems(host, root, name, manifest)
    return problems


def model_problems(manifest: Manifest, root: str, allow_pickle: bool = False) -> List[str]:
    """Say what a directory lacks to be a model that can be converted and loaded."""
    problems: List[str] = []
    names = [path for path in manifest.files if "/" not in path]
    if "config.json" not in names:
        problems.append(f"{root} has no config.json: give the directory that holds the model itself")
    if not _any_match(names, TOKENIZER_FILES):
        problems.append(f"{root} has no tokenizer ({', '.join(TOKENIZER_FILES)}): fetch the tokenizer files too")
    if _any_match(names, WEIGHT_FILES):
        return problems
    if not _any_match(names, PICKLE_FILES):
        problems.append(f"{root} has no weights (*.safetensors): fetch them too")
    elif not allow_pickle:
        problems.append(
            f"{root} has its weights only as pickles, which run code when they are loaded: "
            "fetch the safetensors files, or allow pickles for a source that you trust"
        )
    return problems


def read_safetensors_header(path: str) -> Dict[str, Any]:
    """Return the header of a safetensors file (tensor name -> dtype, shape, data_offsets); ValueError where it has none."""
    with open(path, "rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise ValueError("it is shorter than its own header length")
        length = struct.unpack("<Q", start)[0]
        if length > HEADER_LIMIT:
            raise ValueError(f"its header would be {length} bytes long")
        header = json.loads(stream.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is not a table of tensors")
    header["__end__"] = (
        8
        + length
        + max([entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"], default=0)
    )
    return header


def _safetensors_problem(path: str, size: int) -> Optional[str]:
    try:
        end = read_safetensors_header(path)["__end__"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"{path} is not a safetensors file or is cut off in its header ({error}): fetch it again"
    if end != size:
        return f"{path} has {size} bytes where its header speaks of {end}: fetch it again"
    return None


def _tar_problem(path: str, size: int) -> Optional[str]:
    """Walk the headers of an archive (members are skipped, not read) and look for the zero blocks at its end."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            members = len(archive.getmembers())
    except (tarfile.TarError, OSError) as error:
        return f"{path} is not a whole tar archive ({error}): copy it again"
    with open(path, "rb") as stream:
        stream.seek(max(0, size - TAR_BLOCK))
        closed = not stream.read().strip(b"\0")
    if not closed:
        return f"{path} ends after {members} members without the end mark of an archive: copy it again"
    return None


def _index_problems(host: Host, root: str, name: str, manifest: Manifest) -> List[str]:
    path = os.path.join(root, name)
    try:
        index = json.loads(host.read_text(path) or "")
        shards: Mapping[str, str] = index["weight_map"]
        named = sorted(set(shards.values()))
        total = int(index.get("metadata", {}).get("total_size", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{path} is not an index of shards ({error!r}): fetch it again"]
    absent = [shard for shard in named if shard not in manifest.files]
    if absent:
        return [f"{path} names shards that are not there ({', '.join(absent)}): fetch them too"]
    held = sum(manifest.files[shard].size for shard in named)
    if held < total:
        return [
            f"{path} speaks of {total} bytes of weights, its {len(named)} shards have only {held}: "
            "fetch the index and the shards of one revision"
        ]
    return _tensor_problems(root, path, shards) if name.startswith("model.safetensors") else []


def _tensor_problems(root: str, index: str, shards: Mapping[str, str]) -> List[str]:
    """Find tensors that the index places in a shard which does not have them: shards of two revisions, mixed."""
    problems = []
    for shard in sorted(set(shards.values())):
        try:
            header = read_safetensors_header(os.path.join(root, shard))
        except (ValueError, KeyError, TypeError, IndexError):
            continue  # named already, by file_problem
        lost = sorted(tensor for tensor, place in shards.items() if place == shard and tensor not in header)
        if lost:
            problems.append(
                f"{os.path.join(root, shard)} lacks {len(lost)} tensors that {os.path.basename(index)} places in it "
                f"({', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}): fetch the index and the shards of one revision"
            )
    return problems


def _any_match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in names for pattern in patterns)
