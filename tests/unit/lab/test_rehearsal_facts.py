# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read off a log to compare trainers by."""

from __future__ import annotations

import pytest

from lab import rehearsal_facts

ITERATION = (
    " [2026-05-06 07:08:09] iteration        {0}/      20 | consumed samples:           16 | elapsed time per iteration (ms): 1.5 |"
    " throughput per GPU (TFLOP/s/GPU): 0.0 | learning rate: 9.963797E-04 | global batch size:    16 | lm loss: 4.{0}00000E+00 |"
    " loss scale: 1.0 | grad norm: 0.659 | number of skipped iterations:   0 | number of nan iterations:   0 |"
)


def test_a_curve_has_a_point_for_each_iteration() -> None:
    log = "\n".join(["training ...", ITERATION.format(1), "noise", ITERATION.format(2)])
    assert rehearsal_facts.curve(log) == {
        "number": [1.0, 2.0],
        "rate": [9.963797e-04] * 2,
        "loss": [4.1, 4.2],
        "norm": [0.659] * 2,
    }


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (" loading release checkpoint from /data/x/y", " loading release checkpoint from PATH"),
        (
            "  successfully saved checkpoint from iteration      19 to /data/z",
            "  successfully saved checkpoint from iteration N to PATH",
        ),
        ("[after training is done] datetime: 2026-05-06 07:08:09 ", "[after training is done] datetime: TIME"),
        ("all tp gourps [[0, 1], [2, 3]]", "all tp gourps [[N, N], [N, N]]"),
        (" > number of things: 5 > number of things: 5", " > number of things: N"),
        ("    load-checkpoint ......: (25.53, 39.04)", "    load-checkpoint ......: (F, F)"),
    ],
)
def test_a_shape_has_neither_numbers_nor_places(line: str, shape: str) -> None:
    assert rehearsal_facts.shape(line) == shape


def test_a_shape_stands_once_and_noise_not_at_all() -> None:
    log = "\n".join(
        [
            *(
                "make: Entering directory '/data/x'",
                "[W1124 01:19:40.17 socket.cpp:207] [c10d] no name",
                "  @custom_bwd",
            ),
            *("  tensor_model_parallel_size ...................... 2", "", "frame #3: main + 0x1", "training ..."),
            *(ITERATION.format(number) for number in (1, 2)),
        ]
    )
    first, second = rehearsal_facts.shapes(log)
    assert first == "training ..."
    assert second.startswith(" [TIME] iteration N/ N | consumed samples: N |")


def test_lines_that_ranks_wrote_into_one_are_known_and_others_are_not() -> None:
    known = [" iteration N | lm loss: F |", "[Rank N] memory (MB) | F", " iteration N | lm loss: F | nan"]
    shared = " iteration N | lm loss: F |[Rank N] memory (MB) | F"
    assert rehearsal_facts.unknown([shared, *known], known) == []
    assert rehearsal_facts.unknown([f"{shared} more", "iteration"], known) == [f"{shared} more", "iteration"]
