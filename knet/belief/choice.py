"""
Which of several sources counts: the first that can tell.

Pure. A source that tells an error, or nothing, for as long as one is patient, is given up for the next one; where
nobody is known yet, an error is enough, and one that will not pass is enough at any time. It is taken back once it
has been alive for a while, so that one which comes and goes does not decide by turns; at once where the one
in use cannot tell either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["MOST_RETURN_HOLD", "RETURNED_LATELY", "RETURN_HOLD", "Choice", "Health"]

# Seconds that a source must have been alive before it is taken back: doubled for each time in the last
# five minutes, up to a minute.
RETURN_HOLD = 5.0
RETURNED_LATELY = 300.0
MOST_RETURN_HOLD = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """
    How a source does.

    Attributes:
        state: `"idle"`: nobody needs it; `"silent"`: it has said nothing yet; `"alive"`; `"down"`: it told an
            error; `"hopeless"`: one that does not pass by itself.
        since: Since when.
    """

    state: Literal["idle", "silent", "alive", "down", "hopeless"] = "idle"
    since: float = -math.inf

    def now(
        self, state: Literal["idle", "silent", "alive", "down", "hopeless"], now: float
    ) -> Health:
        """
        Return how it does that is in *state* now: since when it is, if it was before.
        """
        return self if state == self.state else Health(state, now)

    def given_up_at(self, patience: float, *, knows: bool) -> float:
        """
        Return when it is given up, if it stays as it is.
        """
        if self.state in ("alive", "idle"):
            return math.inf
        if self.state == "hopeless" or (self.state == "down" and not knows):
            return -math.inf
        return self.since + patience


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Which source is in use.

    Attributes:
        index: Its place in the order of preference.
        returns: When a source was taken back, of late.
    """

    index: int = 0
    returns: tuple[float, ...] = ()

    def hold(self, now: float) -> float:
        """
        Return for how many seconds a source must have been alive to be taken back.
        """
        lately = sum(now - at < RETURNED_LATELY for at in self.returns)
        return min(RETURN_HOLD * 2.0**lately, MOST_RETURN_HOLD)

    def after(
        self, health: Sequence[Health], now: float, *, patience: float, knows: bool
    ) -> tuple[Choice, float]:
        """
        Return which one is in use now, and when that may change although nothing is heard.

        Args:
            health: How each does, in the order of preference.
            now: Seconds on the clock of `Health.since`.
            patience: Seconds.
            knows: Whether endpoints are known.
        """
        index = self.index
        hold, due = self.hold(now), math.inf
        for earlier in range(index):
            if health[earlier].state != "alive":
                continue
            if health[index].state != "alive":
                return Choice(earlier, self.returns), math.inf
            taken_back_at = health[earlier].since + hold
            if taken_back_at <= now:
                lately = [at for at in self.returns if now - at < RETURNED_LATELY]
                return Choice(earlier, (*lately, now)), math.inf
            due = min(due, taken_back_at)
        if index + 1 < len(health):
            given_up_at = health[index].given_up_at(patience, knows=knows)
            if given_up_at <= now:
                return Choice(index + 1, self.returns), now
            due = min(due, given_up_at)
        return self, due
