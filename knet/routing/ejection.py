"""
Who is skipped for a while, for how long, and who is on trial.

A pod that fails is ejected at once, by this ring's own experience and for this ring alone: its keys go to
the next pod, and nobody else's key moves. Its ejection is over after some seconds, twice as many each
time in a row. Then it is on trial: picks count it in again, and of attempts one at a time goes there until
one has succeeded. A success that began after the last failure clears everything.

Failures are counted by when they began. Twenty requests that were under way when a pod died are one
failure, and a stream that began before it and ends well lifts no ejection.

At most a share of the pods is out, one at least and never all: a failure beyond that ejects nobody, and
who is out stays out. (Of 10 pods, 6 of them dead, 0.01 % of requests fail so; 17 % fail where everybody is
let in again.) The names are those of Envoy's outlier detection and of gRFC A50.

Pure: times are handed in, on any clock that only goes forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.pods import Identity, by_name, identity

__all__ = ["EjectionPolicy", "Ejections"]

_MOST_DOUBLINGS = 32

_weight = attrgetter("weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionPolicy:
    """
    When a pod that failed is skipped, and for how long.

    Attributes:
        base: Seconds of the first ejection; twice as many for each further one without a success.
        max: Seconds, at most. Envoy's `max_ejection_time`, 300.
        max_share: What part of the pods that have keys may be out at once; one may at least, and never
            all. 0 ejects nobody. Envoy's `max_ejection_percent` is 10 %, which is few where two thirds
            may die together.
        timeouts: How many time-outs or broken exchanges in a row eject a pod. A refused connection
            always does at once.

    Raises:
        ConfigError: A value is out of range.
    """

    base: float = 10.0
    max: float = 300.0
    max_share: float = 0.5
    timeouts: int = 2

    def __post_init__(self) -> None:
        for name in ("base", "max", "max_share"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        if not 0 < self.base < math.inf:
            raise ConfigError(f"base must be above 0 and finite, got {self.base}")
        if not self.base <= self.max:
            raise ConfigError(f"max must be at least base ({self.base:g}), got {self.max}")
        if not 0 <= self.max_share <= 1:
            raise ConfigError(f"max_share must be between 0 and 1, got {self.max_share}")
        if isinstance(self.timeouts, bool) or not isinstance(self.timeouts, int):
            raise TypeError(f"timeouts must be an int, not {type(self.timeouts).__name__}")
        if self.timeouts < 1:
            raise ConfigError(f"timeouts must be at least 1, got {self.timeouts}")


@dataclass(slots=True)
class _Record:
    """
    What is held against a pod.

    Attributes:
        failures: Time-outs and broken exchanges in a row.
        counted_at: When the last of them, or the last ejection, was noted; what began before that is
            part of it.
        times: How often it was ejected without a success.
        until: When its ejection is over, or was; `-inf`: it was not ejected.
        trial_at: When the attempt began that tries it, if one does.
    """

    failures: int = 0
    counted_at: float = -math.inf
    times: int = 0
    until: float = -math.inf
    trial_at: float | None = None


class Ejections:
    """
    Who is out, of one ring. A pod is a name, an address and a port: weights may change.
    """

    __slots__ = ("_by_name", "_endpoints", "_policy", "_records")

    def __init__(self, policy: EjectionPolicy) -> None:
        self._policy = policy
        self._records: dict[Identity, _Record] = {}
        self._endpoints: Sequence[Endpoint] = ()
        # The same by name, once somebody has asked: most snapshots come and go without a failure.
        self._by_name: dict[str, Endpoint] | None = None

    def __bool__(self) -> bool:
        """
        Is anything held against anybody?
        """
        return bool(self._records)

    def follow(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """
        Forget who has left. Where too large a share is out now, those come back first who would anyway.
        """
        self._endpoints, self._by_name = endpoints, None
        if not self._records:
            return
        self._records = {pod: r for pod, r in self._records.items() if self._member(pod)}
        out = sorted((r.until, pod) for pod, r in self._records.items() if r.until > now)
        for _, pod in out[: max(0, len(out) - self._most_out())]:
            self._records[pod].until = now

    def out(self, now: float) -> dict[Endpoint, float]:
        """
        Return who is ejected, and for how many seconds more.
        """
        found: dict[Endpoint, float] = {}
        for pod, record in list(self._records.items()):
            member = self._member(pod) if record.until > now else None
            if member is not None:
                found[member] = record.until - now
        return found

    def next_end(self, now: float) -> float | None:
        """
        Return when the next ejection is over, or `None`: nobody is out.
        """
        return min((r.until for r in self._records.values() if r.until > now), default=None)

    def is_spared(self, endpoint: Endpoint, now: float) -> bool:
        """
        Should an attempt rather go elsewhere: is it out, or tried by another attempt?

        A trial that is older than `base` keeps nobody away.
        """
        record = self._records.get(identity(endpoint))
        if record is None or record.until == -math.inf:
            return False
        if record.until > now:
            return True
        return record.trial_at is not None and now - record.trial_at < self._policy.base

    @property
    def has_trials(self) -> bool:
        """
        Is anybody being tried by an attempt?
        """
        return any(record.trial_at is not None for record in self._records.values())

    def begin(self, endpoint: Endpoint, now: float) -> bool:
        """
        Note that an attempt begins; return whether it is the trial of a pod that was out.
        """
        if not self._records:
            return False
        record = self._records.get(identity(endpoint))
        if record is None or record.until == -math.inf or record.until > now:
            return False
        if record.trial_at is not None and now - record.trial_at < self._policy.base:
            return False
        record.trial_at = now
        return True

    def end_trial(self, endpoint: Endpoint, began_at: float) -> None:
        """
        Note that the trial that began then has ended, however.
        """
        record = self._records.get(identity(endpoint))
        if record is not None and record.trial_at == began_at:
            record.trial_at = None

    def succeed(self, endpoint: Endpoint, began_at: float) -> bool:
        """
        Note that an exchange that began then has succeeded; return whether that changes who is out.
        """
        if not self._records:
            return False
        pod = identity(endpoint)
        record = self._records.get(pod)
        if record is None or began_at <= record.counted_at:
            return False
        del self._records[pod]
        return record.until > -math.inf

    def fail(self, endpoint: Endpoint, grade: int, began_at: float, now: float) -> bool:
        """
        Note that an exchange that began then has failed; return whether the pod was ejected for it.

        Args:
            endpoint: Where.
            grade: 1: it is ejected at once. 2 or more: at the `timeouts`-th in a row. 0: not at fault.
            began_at: When the exchange began.
            now: When it failed.
        """
        pod = identity(endpoint)
        if grade < 1 or self._member(pod) is None:
            return False
        record = self._records.get(pod) or _Record()
        if began_at <= record.counted_at or record.until > now:
            return False
        self._records[pod] = record
        record.counted_at = now
        record.failures += 1
        # One that was out before has had its chance.
        if grade > 1 and not record.times and record.failures < self._policy.timeouts:
            return False
        return self._eject(record, now, None)

    def eject(self, endpoint: Endpoint, seconds: float | None, now: float) -> bool:
        """
        Eject somebody by hand; return whether it is out now.
        """
        pod = identity(endpoint)
        if self._member(pod) is None:
            return False
        record = self._records.setdefault(pod, _Record())
        record.counted_at = now
        return self._eject(record, now, seconds)

    def restore(self, endpoint: Endpoint) -> bool:
        """
        Hold nothing against somebody any more; return whether there was anything.
        """
        return self._records.pop(identity(endpoint), None) is not None

    def _eject(self, record: _Record, now: float, seconds: float | None) -> bool:
        others = sum(r.until > now for r in self._records.values() if r is not record)
        if others >= self._most_out():
            return False
        if seconds is None:
            doubled = self._policy.base * 2.0 ** min(record.times, _MOST_DOUBLINGS)
            seconds = min(doubled, self._policy.max)
        record.times += 1
        record.failures = 0
        record.trial_at = None
        record.until = now + seconds
        return True

    def knows(self, endpoint: Endpoint) -> bool:
        """
        Is *endpoint* one of the ring's, and has it keys?
        """
        return self._member(identity(endpoint)) is not None

    def _member(self, pod: Identity) -> Endpoint | None:
        """
        Return which endpoint that is, if it has keys.
        """
        if self._by_name is None:
            # Of ten thousand this takes less than a millisecond; to hash them would take five.
            self._by_name = dict(zip(map(by_name, self._endpoints), self._endpoints, strict=True))
        endpoint = self._by_name.get(pod[0])
        if endpoint is None or identity(endpoint) != pod or not endpoint.weight:
            return None
        return endpoint

    def _most_out(self) -> int:
        """
        Return how many may be out at once.
        """
        count = len(self._endpoints) - list(map(_weight, self._endpoints)).count(0)
        if not self._policy.max_share:
            return 0
        # Shares such as 2/3 are not to be lost to rounding.
        share = math.floor(count * self._policy.max_share + 1e-9)
        return min(max(share, 1), count - 1)
