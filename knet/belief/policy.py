"""
`RefreshPolicy`: when a ring asks, and how soon it believes what it hears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from knet.errors import ConfigError

__all__ = ["RefreshPolicy"]


_MIN_INTERVAL = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """
    When a ring asks DNS, and how soon it believes what it hears.

    With the defaults, on a server that answers live:

    - a new pod gets its keys within 5.5 s;
    - a dead or unready pod loses its keys within 7 s: it must be missing from two answers in a row,
      and the second is asked for 1 s after the first; where it had left and come back within a minute,
      in the last ten, it takes a minute, so that servers that contradict each other move no keys;
    - a blip of NXDOMAIN or of empty answers is not felt below 30 s; after that the ring is empty,
      and refills with the first answer that names a pod;
    - a DNS outage is never felt by `get`; when it ends, the ring has caught up within 30 s, or 35 s
      where the servers were silent.

    A cache between knet and the cluster adds what it holds: the TTL, at most.

    Attributes:
        interval: Seconds between lookups, at most. A shorter TTL shortens it.
        min_interval: Seconds between lookups, at least, whatever the TTL; also how often
            `Ring.refresh` asks. An *interval* below it counts for both.
        jitter: Every wait after an answer is longer by up to this part of itself, at random, so that
            clients do not keep step. Never shorter: that would hit a cache just before it expires.
            After a failure it is between half and all of what was planned.
        retry: Seconds before the first retry after a failure, which may be less than *min_interval*;
            doubled for each further one. Envoy's `dns_failure_refresh_rate.base_interval`.
        max_retry: Seconds that a retry is delayed at most.
        empty_hold: Seconds for which the last endpoints are kept while DNS says that there are
            none; 30, as HAProxy's `hold nx`. `math.inf`: never empty.
        confirm: In how many answers in a row a pod must be missing before it is removed. 1 believes
            the first.

    Raises:
        ConfigError: A value is out of range.
    """

    interval: float = 5.0
    min_interval: float = _MIN_INTERVAL
    jitter: float = 0.1
    retry: float = 0.5
    max_retry: float = 30.0
    empty_hold: float = 30.0
    confirm: int = 2

    def __post_init__(self) -> None:
        for name in ("interval", "min_interval", "jitter", "retry", "max_retry", "empty_hold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        for name in ("interval", "min_interval", "retry", "max_retry"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite, got {value}")
        if self.min_interval > max(self.interval, _MIN_INTERVAL):
            raise ConfigError(
                f"min_interval must be at most interval ({self.interval:g}), got {self.min_interval:g}; to "
                f"ask every {self.min_interval:g} s write interval={self.min_interval:g} too"
            )
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"jitter must be between 0 and 1, got {self.jitter}")
        if self.retry > self.max_retry:
            raise ConfigError(
                f"max_retry must be at least retry ({self.retry}), got {self.max_retry}"
            )
        if not self.empty_hold >= 0:
            raise ConfigError(f"empty_hold must be 0 or more, got {self.empty_hold}")
        if self.confirm < 1:
            raise ConfigError(f"confirm must be at least 1, got {self.confirm}")

    def __repr__(self) -> str:
        """
        Show what differs from the defaults.
        """
        mine = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return f"RefreshPolicy({', '.join(mine)})"

    @property
    def shortest(self) -> float:
        """
        Seconds between two lookups that succeed, at least.
        """
        return min(self.min_interval, self.interval)
