# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about a run: gathered from one node's log, merged over the nodes, judged. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from _supervise_failures import JUDGED, Failure
from _supervise_log import Event, Iteration, Loaded, NotLoaded, Saved
from _supervise_spec import Expectation, finite

LOSSES_KEPT = 1000  # points of the loss curve in a status file, about 20 kB
RANDOM_MARGIN = 0.5  # nats per token below a uniform guess over the vocabulary; trained models are several below
SKIPS_ALLOWED = 50  # skipped iterations in a row; the loss scale of fp16 needs a few to settle


@dataclass(frozen=True)
class Facts:
    """The course of a run, as far as a log tells. Losses in nats per token, times in ms per iteration."""

    loaded: Optional[int] = None  # iteration of the checkpoint that was loaded
    saved: Optional[int] = None
    iteration: Optional[int] = None
    iterations: Optional[int] = None
    loss: Optional[float] = None
    ms_per_iteration: Optional[float] = None
    first_iteration: Optional[int] = None  # of the whole run
    first_loss: Optional[float] = None
    attempt_first_iteration: Optional[int] = None  # since the last start
    attempt_first_loss: Optional[float] = None
    skipped_in_a_row: int = 0
    shown_before: Optional[float] = None  # the loss of an earlier attempt at the first iteration of this one

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Facts:
        """Read what dataclasses.asdict gave."""
        return cls(**{item.name: data.get(item.name, item.default) for item in fields(cls)})


Loss = Tuple[int, float]


class Course:
    """What one node's log has said so far. `losses` continues what an earlier attempt left, up to the iteration `start`."""

    def __init__(self, earlier: Sequence[Loss] = (), start: int = 0) -> None:
        self.losses: List[Loss] = [point for point in earlier if point[0] <= start]
        first = self.losses[0] if self.losses else (None, None)
        shown = dict(earlier).get(start + 1) if start else None
        self.facts = Facts(first_iteration=first[0], first_loss=first[1], shown_before=shown)

    def add(self, event: Event) -> Optional[Failure]:
        """Take an event in; return a failure when it alone makes the run worthless."""
        if isinstance(event, Loaded):
            self.facts = replace(self.facts, loaded=event.iteration)
        elif isinstance(event, Saved):
            self.facts = replace(self.facts, saved=event.iteration)
        elif isinstance(event, NotLoaded):
            return not_loaded(event)
        else:
            return self._advance(event)
        return None

    def _advance(self, event: Iteration) -> Optional[Failure]:
        failure = judge_iteration(event, self.facts.skipped_in_a_row)
        self.facts = replace(
            self.facts, iteration=event.iteration, iterations=event.iterations, ms_per_iteration=event.ms
        )
        if event.loss is None or not finite(event.loss):
            self.facts = replace(self.facts, skipped_in_a_row=self.facts.skipped_in_a_row + event.skipped)
            return failure
        self.facts = replace(self.facts, loss=event.loss, skipped_in_a_row=0)
        if self.facts.first_loss is None:
            self.facts = replace(self.facts, first_iteration=event.iteration, first_loss=event.loss)
        if self.facts.attempt_first_loss is None:
            self.facts = replace(self.facts, attempt_first_iteration=event.iteration, attempt_first_loss=event.loss)
        self.losses = thinned([*self.losses, (event.iteration, event.loss)])
        return failure


def thinned(losses: List[Loss]) -> List[Loss]:
    """Return at most LOSSES_KEPT points: every second of the older ones goes, the first and the newest stay."""
    if len(losses) <= LOSSES_KEPT:
        return losses
    return losses[:1] + losses[1:-1][1::2] + losses[-1:]


def merge(every: Iterable[Facts]) -> Facts:
    """Return what the nodes know together: each value comes from the node that has it, numbers that grow from the furthest."""
    known = list(every)
    furthest = max(known, key=lambda facts: -1 if facts.iteration is None else facts.iteration, default=Facts())
    loaded = [facts.loaded for facts in known if facts.loaded is not None]
    saved = [facts.saved for facts in known if facts.saved is not None]
    shown = [facts.shown_before for facts in known if facts.shown_before is not None]
    return replace(
        furthest,
        loaded=loaded[0] if loaded else None,
        saved=max(saved) if saved else None,
        shown_before=shown[0] if shown else None,
    )


def not_loaded(event: NotLoaded) -> Failure:
    """Return the failure that a line about an unloaded checkpoint means."""
    return Failure(
        f"Training did not load its checkpoint and would go on with random weights: {event.text[:300]}",
        "Run --tags conversion: every host needs the tracker file and the shards of its ranks under the directory of --load.",
        JUDGED,
    )


def judge_iteration(event: Iteration, skipped_before: int) -> Optional[Failure]:
    """Return a failure when the loss is not a number, or when the loss scale never settles."""
    if event.loss is not None and finite(event.loss):
        return None
    if event.skipped and skipped_before + event.skipped <= SKIPS_ALLOWED:
        return None
    what = (
        f"{skipped_before + event.skipped} iterations in a row were skipped"
        if event.skipped
        else "the loss is not a number"
    )
    return Failure(
        f"At iteration {event.iteration} {what}.",
        "Lower the learning rate or clip the gradient, and check the dataset around that iteration.",
        JUDGED,
    )


def judge_loading(expect: Expectation, facts: Facts) -> Optional[Failure]:
    """Judge what was loaded, once an iteration is logged; a line that is still missing is for the caller to wait for."""
    if not expect.loads or facts.loaded is None or facts.loaded == expect.start:
        return None
    return Failure(
        f"Training loaded the checkpoint at iteration {facts.loaded}, and not at {expect.start}.",
        "Look at the tracker file under the directory of --load on the first host.",
        JUDGED,
    )


def never_loaded() -> Failure:
    """Return the failure of a run that trains without ever having said that it loaded its checkpoint."""
    return Failure(
        "Training iterates, and no line says that a checkpoint was loaded: the weights are random.",
        "Check --load in the training arguments.",
        JUDGED,
    )


def judge_first_loss(expect: Expectation, facts: Facts) -> Optional[Failure]:
    """Compare the first loss with the one that the loaded weights have on the same samples.

    That is the model's own loss, computed beforehand, or for a resumed run what the attempt before it showed at the same iteration.
    """
    loss, at = facts.attempt_first_loss, facts.attempt_first_iteration
    expected = facts.shown_before if expect.start else expect.first_loss
    if loss is None:
        return None
    if expected is None:
        return None if expect.start else _judge_by_random(expect, loss, at)
    if at == expect.start + 1 and (expect.exact or expect.start):
        wrong = abs(loss - expected) > expect.tolerance
        rule = f"{expected:.5f} within {expect.tolerance:g}"
    else:
        # The line is an average over several iterations, an earlier batch was skipped, or the expected loss is an estimate.
        # Random weights can still be told.
        limit = (expected + (expect.random_loss or expected + 1.0)) / 2
        wrong = loss > limit
        rule = f"below {limit:.5f}, half way from the model's own loss to that of random weights"
    if not wrong:
        return None
    return Failure(
        f"The first loss is {loss:.5f} at iteration {at}; expected was {rule}: these are not the converted weights, or not these samples.",
        "Check --load, the model's arguments (rotary base, padded vocabulary, tied embeddings) and the dataset; "
        "for other numerics raise the tolerance of the first loss.",
        JUDGED,
    )


def _judge_by_random(expect: Expectation, loss: float, at: Optional[int]) -> Optional[Failure]:
    """Judge where the model's own loss was wanted and could not be computed (then `exact` is false): random weights know nothing of text.

    Their loss is that of a uniform guess, or more; an average over many iterations may already lie below it and is then not told.
    """
    if expect.exact or not expect.loads or expect.random_loss is None or loss < expect.random_loss - RANDOM_MARGIN:
        return None
    return Failure(
        f"The first loss is {loss:.5f} at iteration {at}, that of random weights {expect.random_loss:.5f}: "
        "these are not the converted weights.",
        "Check --load, the model's arguments (rotary base, padded vocabulary, tied embeddings) and the dataset; "
        "for a model that is meant to know nothing set pretraining_check_first_loss: false.",
        JUDGED,
    )


def judge_end(expect: Expectation, facts: Facts) -> Optional[Failure]:
    """Judge a run whose processes all ended with status 0: that alone proves nothing."""
    last = facts.iteration if facts.iteration is not None else (facts.loaded if expect.start else None)
    if last is None or last < expect.iterations:
        shown = "without logging an iteration" if last is None else f"after iteration {last} of {expect.iterations}"
        return Failure(f"Training ended with status 0 {shown}.", "Read the end of the logs of all nodes.", JUDGED)
    if facts.iteration is not None and not finite(facts.loss):
        return Failure("Training ended, and no finite loss was logged.", "Read the log of the last node.", JUDGED)
    if expect.loads and facts.loaded is None:
        return never_loaded()
    return judge_loading(expect, facts) or judge_first_loss(expect, facts)


def all_done(expect: Expectation, saves: bool, facts: Facts) -> bool:
    """Say whether the logs show all that a run is for: the last iteration as it should be, and what it trained saved by every rank.

    Rank 0 says that it saved when the others have, too.
    """
    if judge_end(expect, facts) is not None:
        return False
    return not saves or (facts.saved is not None and facts.saved >= expect.iterations)


def as_data(facts: Facts) -> Dict[str, Any]:
    """Return plain data for JSON."""
    return asdict(facts)
