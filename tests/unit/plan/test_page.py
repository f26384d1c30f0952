# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: well-formed, complete, and the same for the same plan."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.conftest import load_plugin
from tests.unit.plan import given

page = load_plugin("filter/report_page.py").plan_page


def parsed(made: dict[str, Any]) -> ET.Element:
    text = page(made)
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.split("\n", 1)[1])


def pictures(root: ET.Element) -> list[ET.Element]:
    return list(root.iter("svg"))


def test_two_pictures_show_every_rank() -> None:
    made = given.make(fleet=given.hosts(4))
    root = parsed(made)
    memory, placement = pictures(root)
    assert len(list(memory.iter("rect"))) == 8 * 4  # ranks x parts
    assert len(list(memory.iter("line"))) == 8
    cells = [cell.findtext("title") for cell in placement.iter("rect")]
    assert cells[5] == "rank 5 on npu-3: tp 1, cp 0, dp 0, pp 1"
    assert len(cells) == made["world_size"]
    text = "".join(root.itertext())
    assert "mp_rank_00_001" in text
    assert "HCCL_SOCKET_IFNAME==eth0" in text
    assert " ".join(made["training_arguments"]) in text


def test_the_bars_are_in_proportion() -> None:
    made = given.make()
    memory = pictures(parsed(made))[0]
    widths = [float(rect.attrib["width"]) for rect in memory.iter("rect")][:4]
    need = made["memory"][0]
    parts = [need[part] for part in ("static", "activation", "communication", "runtime")]
    assert widths == pytest.approx([part / need["capacity"] * 740 for part in parts], abs=0.06)


def test_many_ranks_share_a_bar_and_have_no_numbers() -> None:
    made = given.make(fleet=given.hosts(300), overrides={"global_batch_size": 300})
    memory, placement = pictures(parsed(made))
    assert len(list(memory.iter("rect"))) == 2 * 4
    assert len(list(placement.iter("rect"))) == 600
    assert list(placement.iter("text")) == []


def test_a_refused_plan_says_what_fits_instead() -> None:
    large = {"wanted": given.recipe("qwen2.5-coder-7b-32k"), "model": given.CODER_7B}
    refused = given.refused_plan(**large, overrides={"tp": 2, "pp": 2})
    text = "".join(parsed(refused).itertext())
    assert "Run plan: refused" in text
    assert all(item["text"] in text for item in refused["suggestions"])
    early = given.refused_plan(overrides={"tp": 3})
    assert pictures(parsed(early)) == []
    assert "TP 3" in "".join(parsed(early).itertext())


def test_names_are_escaped() -> None:
    fleet = [{**host, "name": f"<{host['name']}>&"} for host in given.hosts()]
    assert "<npu-1>&" in "".join(parsed(given.make(fleet=fleet)).itertext())


def test_the_same_plan_gives_the_same_page() -> None:
    assert page(given.make()) == page(given.make())
