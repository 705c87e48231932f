"""
Which pods there are, one step of a change after the other.

A pod is an endpoint, and one that restarts is another endpoint: it has a new address and has
forgotten everything. Addresses are drawn from 10.244.0.0/16, where many clusters have their pods, and
the same seed draws the same ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from knet import ConfigError, Endpoint

__all__ = ["MOST_PODS", "Fleet", "Plan", "Rolling", "Step"]

MOST_PODS = 10_000

Rolling = Literal["deployment", "statefulset"]

# Pods of all steps together.
_MOST_IN_ALL = 4_000_000

_PORT = 8080
_NETWORK = "10.244"
_ADDRESSES = 65_536
_ZONES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Step:
    """
    The pods that are ready at one time.

    Attributes:
        told: What has just happened, such as `"2 join"`.
        pods: Sorted by name, as a ring has them.
    """

    told: str
    pods: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    A change, as its steps.

    Attributes:
        told: What it is, for a heading.
        steps: The first is what there is before; there is no other one where nothing changes.
    """

    told: str
    steps: tuple[Step, ...]

    @property
    def before(self) -> tuple[Endpoint, ...]:
        return self.steps[0].pods

    @property
    def after(self) -> tuple[Endpoint, ...]:
        return self.steps[-1].pods

    @property
    def joins(self) -> int:
        """
        How many pods become ready, in all steps together.
        """
        return sum(len(_new(a.pods, b.pods)) for a, b in pairwise(self.steps))

    @property
    def leaves(self) -> int:
        """
        How many pods go away, in all steps together.
        """
        return sum(len(_new(b.pods, a.pods)) for a, b in pairwise(self.steps))


class Fleet:
    """
    Makes pods, each with an address that no other one had before.

    Args:
        weights: Of the pods by their number; they are used again and again.
        zones: Over how many the pods are spread, in turn.
        stateful: Pods have a name for good, as those of a StatefulSet behind a named port. Otherwise
            their name is their address.
        service: Its whole name, which is part of such a name.
        seed: What addresses are drawn by.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        *,
        weights: Sequence[float] = (1.0,),
        zones: int = 1,
        stateful: bool = False,
        service: str = "web.prod.svc.cluster.local",
        seed: int = 0,
    ) -> None:
        if not 1 <= zones <= len(_ZONES):
            raise ConfigError(f"--zones must be from 1 to {len(_ZONES)}, got {zones}")
        for weight in weights:
            if not 0 <= weight < math.inf:
                raise ConfigError(f"--weights must be numbers of 0 or more, got {weight:g}")
        self._weights = tuple(int(w) if float(w).is_integer() else w for w in weights)
        self._zones = zones
        self._stateful = stateful
        self._service = service
        self._random = random.Random(seed)
        self._taken: set[int] = set()

    def pods(self, count: int, first: int = 0) -> tuple[Endpoint, ...]:
        """
        Return *count* new pods, numbered from *first*.
        """
        return tuple(self.pod(number) for number in range(first, first + count))

    def pod(self, number: int) -> Endpoint:
        """
        Return a new pod of that number.
        """
        drawn = self._random.randrange(1, _ADDRESSES)
        while drawn in self._taken:
            drawn = self._random.randrange(1, _ADDRESSES)
        self._taken.add(drawn)
        address = f"{_NETWORK}.{drawn >> 8}.{drawn & 255}"
        return Endpoint(
            f"web-{number}.{self._service}" if self._stateful else address,
            address,
            _PORT,
            weight=self._weights[number % len(self._weights)],
            zone=f"zone-{_ZONES[number % self._zones]}",
        )

    # --- changes

    def stay(self, count: int) -> Plan:
        """
        Return a plan in which nothing happens to *count* pods.
        """
        return Plan(_pods(count), (_step("", self.pods(_checked(count, "--pods"))),))

    def scale(self, count: int, to: int) -> Plan:
        """
        Return the change from *count* pods *to* as many: those of the highest numbers go.
        """
        before = self.pods(_checked(count, "--pods"))
        _checked(to, "--scale")
        after = before[:to] + self.pods(max(0, to - count), count)
        told = f"{to - count} join" if to > count else f"{count - to} leave"
        return Plan(f"{_pods(count)} to {to:,}", (_step("", before), _step(told, after)))

    def lose_zone(self, count: int) -> Plan:
        """
        Return the loss of all pods of one zone at once.

        Raises:
            ConfigError: Nobody would be left.
        """
        before = self.pods(_checked(count, "--pods"))
        after = tuple(pod for pod in before if pod.zone != before[0].zone)
        if not after:
            raise ConfigError("--lose-zone needs pods in two zones: more --pods, or more --zones")
        steps = _step("", before), _step(f"{count - len(after)} leave", after)
        return Plan(f"{_pods(count)} in {self._zones} zones lose one", steps)

    def roll_deployment(
        self,
        count: int,
        *,
        surge: str = "25%",
        unavailable: str = "25%",
        ready: Callable[[int], int] = lambda made: made,
    ) -> Plan:
        """
        Return the rolling update of a Deployment: every pod gets another name.

        The Deployment makes as many new pods as *surge* lets it, and takes away as many old ones as
        *unavailable* lets it.

        Args:
            count: How many pods.
            surge: How many more there may be, as a number or as a part of them, rounded up.
            unavailable: How many fewer may be ready, likewise, rounded down.
            ready: How many of so many that were made get ready before the Deployment looks again, at
                least 1; usually all of them.

        Raises:
            ConfigError: A value is none, or both are 0.
        """
        old = list(self.pods(_checked(count, "--pods")))
        more = _part(surge, count, "--max-surge", math.ceil)
        fewer = _part(unavailable, count, "--max-unavailable", math.floor)
        if not more and not fewer:
            # As Kubernetes does where percentages come to nothing.
            if not unavailable.endswith("%"):
                raise ConfigError("--max-surge and --max-unavailable must not both be 0")
            fewer = 1
        _check_steps(count, more + fewer)
        steps = [_step("", old)]
        new: list[Endpoint] = []
        while old or len(new) < count:
            gone = min(len(old), len(old) + len(new) - (count - fewer))
            if gone:
                old = old[gone:]
                _add(steps, f"{gone} leave", old + new)
            # What was made before is still among them.
            made = min(count - len(new), count + more - len(old) - len(new))
            if made:
                made = ready(made)
                new += self.pods(made, len(new))
                _add(steps, f"{made} join", old + new)
        return Plan(f"rolling update of a Deployment of {_pods(count)}", tuple(steps))

    def roll_statefulset(self, count: int, *, unavailable: str = "1") -> Plan:
        """
        Return the rolling update of a StatefulSet: from the highest number on each pod goes away, and
        comes back under its name.

        Args:
            count: How many pods.
            unavailable: How many are away at a time, as a number or as a part of them, rounded up.

        Raises:
            ConfigError: A value is none.
        """
        pods = list(self.pods(_checked(count, "--pods")))
        # Of a StatefulSet it is rounded up.
        away = _part(unavailable, count, "--max-unavailable", math.ceil)
        if not away:
            raise ConfigError("--max-unavailable must be at least 1 for a StatefulSet")
        _check_steps(count, away)
        steps = [_step("", pods)]
        for end in range(count, 0, -away):
            start = max(0, end - away)
            _add(steps, f"{end - start} leave", pods[:start] + pods[end:])
            pods[start:end] = self.pods(end - start, start)
            _add(steps, f"{end - start} return", pods)
        return Plan(f"rolling update of a StatefulSet of {_pods(count)}", tuple(steps))


def _new(before: Sequence[Endpoint], after: Sequence[Endpoint]) -> set[int]:
    # By identity: a plan has each pod once, and to hash an endpoint takes longer.
    return {*map(id, after)} - {*map(id, before)}


def _check_steps(count: int, together: int) -> None:
    """
    Raise where a rolling update of *count* pods, so many of them together, has too many steps to be kept.
    """
    steps = 2 * math.ceil(count / together)
    if steps * count > _MOST_IN_ALL:
        raise ConfigError(
            f"{steps:,} steps of {count:,} pods are too many: take more pods at a time by --max-unavailable, "
            f"{math.ceil(2 * count * count / _MOST_IN_ALL):,} for instance"
        )


def _add(steps: list[Step], told: str, pods: Sequence[Endpoint]) -> None:
    if pods:  # a ring keeps its pods while nobody is ready
        steps.append(_step(told, pods))


def _step(told: str, pods: Sequence[Endpoint]) -> Step:
    return Step(told, tuple(sorted(pods, key=lambda pod: pod.name)))


def _checked(count: int, option: str) -> int:
    if not 1 <= count <= MOST_PODS:
        raise ConfigError(f"{option} must be from 1 to {MOST_PODS:,}, got {count:,}")
    return count


def _part(text: str, of: int, option: str, rounded: Callable[[float], int]) -> int:
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdecimal()) or len(number) > 6:
        raise ConfigError(f"{option} must be a number or a percentage such as 25%, got {text!r}")
    if number == text:
        return min(int(text), of)
    return min(rounded(of * int(number) / 100), of)


def _pods(count: int) -> str:
    return f"{count:,} pod{'' if count == 1 else 's'}"
