"""
Whether what a demo saw was right.

Pure: what happened in each act goes in, the reasons to doubt it come out. Names are those of pods;
who picked, asked and answered is of no interest here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Act", "judge"]

# A member's share of the key space strays from the mean by 8 % or so (160 points); half as much
# again as the ideal would be a fault. Besides, a few keys are a small sample of the key space, and
# four standard deviations of one are left to chance.
_UNEVEN = 0.5
_DEVIATIONS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """
    What one act of the demo was, and what was seen of it.

    Attributes:
        title: What a person knows it by.
        before: The pod of every key when the act began.
        after: The pod of every key when it ended.
        pods_before: The pods that were in DNS when it began, whatever the ring knew.
        pods_after: The pods that were in DNS when it ended.
        answered: How many requests the picked pod answered.
        unanswered: How many requests nobody answered.
        wrong: How many requests another pod than the picked one answered.
        failed_gets: How many times `Ring.get` raised.
        deadly: Whether a pod was down in it, so that requests may have gone unanswered.
        cured: Whether clients went on with the next pod, so that none may have.
        trouble: What did not happen in time, or `None`.
    """

    title: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    pods_before: frozenset[str]
    pods_after: frozenset[str]
    answered: int
    unanswered: int = 0
    wrong: int = 0
    failed_gets: int = 0
    deadly: bool = False
    cured: bool = False
    trouble: str | None = None

    @property
    def moved(self) -> tuple[str, ...]:
        """
        The keys that have another pod than before.
        """
        return tuple(key for key, pod in self.before.items() if self.after[key] != pod)

    @property
    def without_cause(self) -> tuple[str, ...]:
        """
        The keys that moved though their pod stayed, and not to a pod that joined.
        """
        joined = self.pods_after - self.pods_before
        return tuple(
            key
            for key in self.moved
            if self.before[key] in self.pods_after and self.after[key] not in joined
        )

    @property
    def moved_share(self) -> float:
        """
        What part of the keys moved, from 0 to 1.
        """
        return len(self.moved) / len(self.before) if self.before else 0.0

    @property
    def ideal_share(self) -> float:
        """
        What part of the keys would move if every pod had as many keys as the next.

        A pod that stays keeps its keys, up to what is its due afterwards; the rest has to move:
        1/N when one of N leaves, 1/N when the N-th joins, 0 when nothing changes.
        """
        most = max(len(self.pods_before), len(self.pods_after))
        return 1 - len(self.pods_before & self.pods_after) / most if most else 0.0


def judge(acts: Iterable[Act]) -> tuple[str, ...]:
    """
    Return what was wrong, a sentence each; nothing if all was as knet promises.
    """
    acts = tuple(acts)
    if not acts:
        return ("nothing was played",)
    return tuple(f"{act.title}: {reason}" for act in acts for reason in _reasons(act))


def _reasons(act: Act) -> Iterable[str]:
    if act.trouble is not None:
        yield act.trouble
    if act.failed_gets:
        yield f"{act.failed_gets} picks failed"
    if act.wrong:
        yield f"{act.wrong} requests were answered by another pod than the picked one"
    if not act.answered:
        yield "no request was answered"
    if act.unanswered and not act.deadly:
        yield f"{act.unanswered} requests went unanswered while every pod was up"
    if act.unanswered and act.cured:
        yield f"{act.unanswered} requests went unanswered although another pod could be asked"
    strangers = set(act.after.values()) - act.pods_after
    if strangers:
        yield f"keys belong to pods that are gone: {', '.join(sorted(strangers))}"
    if act.without_cause:
        some = ", ".join(act.without_cause[:3])
        yield f"{len(act.without_cause)} keys moved without cause, such as {some}"
    ideal, moved = act.ideal_share, act.moved_share
    if abs(moved - ideal) > _tolerance(ideal, len(act.before)):
        yield f"{moved:.1%} of the keys moved, where {ideal:.1%} would be ideal"


def _tolerance(ideal: float, keys: int) -> float:
    chance = math.sqrt(ideal * (1 - ideal) / keys) if keys else 0.0
    return _UNEVEN * ideal + _DEVIATIONS * chance
