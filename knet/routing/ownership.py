"""
Who I am: which of the pods of a service is the one that this program runs in.

A peer, a pod of the very service that it opens a ring of, owns the keys that the ring gives it. It
knows itself by an address (`$POD_IP`), by a name, or by several of them, and a ring knows pods as DNS
tells them. Here the two are brought together, and where they never meet, the likely cause is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.pods import find
from knet.question import is_address

__all__ = ["NEVER_ME", "NOBODY_YET", "Lookout", "Me", "Myself", "Self", "several_workers"]

Self = str | Endpoint
Me = Self | Iterable[Self] | Callable[[], Self | Iterable[Self]]

# Seconds after which a program is told that it is none of the endpoints, and that nobody is there at all.
NEVER_ME = 30.0
NOBODY_YET = 10.0

# How many of the endpoints are named in a warning.
_NAMED = 5


class Myself:
    """
    Who this program is, in its own words.

    Args:
        words: Addresses, names, hostnames or endpoints, each of which may be how a ring knows it.
    """

    __slots__ = ("words",)

    def __init__(self, words: Sequence[Self]) -> None:
        self.words = tuple(words)

    @classmethod
    def told(cls, me: Me) -> Myself:
        """
        Read what a user gave as `me`; a function is called.

        Raises:
            ConfigError: It names nobody.
            TypeError: It is none of what it may be.
        """
        if callable(me):
            me = me()
        words: tuple[object, ...]
        if isinstance(me, str | Endpoint) or not isinstance(me, Iterable):
            words = (me,)
        else:
            words = tuple(me)
        checked: list[Self] = []
        for word in words:
            if not isinstance(word, str | Endpoint):
                raise TypeError(
                    "me must be an address, a name, an Endpoint, several of them, or a function that "
                    f"gives them such as knet.this_pod, not {type(word).__name__}"
                )
            if word == "":
                raise ConfigError(
                    "me must name this pod, and is empty: is $POD_IP set? knet.this_pod finds the "
                    "addresses without it"
                )
            checked.append(word)
        if not checked:
            raise ConfigError("me must name this pod, and names nobody: me=knet.this_pod")
        return cls(checked)

    def among(self, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        """
        Return which of *endpoints*, sorted by name, this is; the first word that fits one decides.
        """
        for word in self.words:
            if isinstance(word, str):
                found = find(endpoints, word)
            else:
                found = find(endpoints, word.name)
                if found is not None and (found.address, found.port) != (word.address, word.port):
                    found = None
            if found is not None:
                return found
        return None

    def why_not(self, endpoints: Sequence[Endpoint]) -> str:
        """
        Say who this is, whom the ring has, and why the two may not meet.
        """
        some = ", ".join(
            str(e) if e.name == e.address else f"{e.name} at {e}" for e in endpoints[:_NAMED]
        )
        more = f" and {len(endpoints) - _NAMED} more" if len(endpoints) > _NAMED else ""
        return f"me is {self}, and the ring has {some}{more}: {self._cause(endpoints)}"

    def _cause(self, endpoints: Sequence[Endpoint]) -> str:
        words = [word.address if isinstance(word, Endpoint) else word for word in self.words]
        mine = {":" in word for word in words if is_address(word)}
        theirs = {":" in endpoint.address for endpoint in endpoints}
        if mine and not mine & theirs:
            return (
                "they are of different families; give the addresses of both, as knet.this_pod does "
                "with $POD_IPS"
            )
        if any(isinstance(word, Endpoint) for word in self.words):
            return "an Endpoint must be equal to the ring's in name, address and port"
        return (
            "this pod has never been ready, or its labels are not those that the Service selects, or "
            "this is the name of another Service"
        )

    def __str__(self) -> str:
        return " or ".join(str(word) for word in self.words)

    def __repr__(self) -> str:
        return f"<Myself {self}>"


class Lookout:
    """
    Whether a program has ever been among the endpoints, and whom to warn that it has not: once.

    Args:
        myself: Who looks out for itself.
    """

    __slots__ = ("_empty_since", "_myself", "_there_since")

    def __init__(self, myself: Myself) -> None:
        self._myself = myself
        # Since when there has been nobody at all, and somebody; infinite once that does not matter.
        self._empty_since: float | None = None
        self._there_since: float | None = None

    def after(self, me: Endpoint | None, endpoints: Sequence[Endpoint], now: float) -> str | None:
        """
        Return what to warn of after a lookup, or `None`.

        Args:
            me: Which of *endpoints* this program is.
            endpoints: Whom the ring serves.
            now: Seconds on any clock that only goes forward.
        """
        if me is not None:
            self._empty_since = self._there_since = math.inf
        if endpoints:
            self._empty_since = math.inf
            self._there_since = now if self._there_since is None else self._there_since
            if now - self._there_since >= NEVER_ME:
                self._there_since = math.inf
                return f"this pod owns no key: {self._myself.why_not(endpoints)}"
        else:
            self._empty_since = now if self._empty_since is None else self._empty_since
            if now - self._empty_since >= NOBODY_YET:
                self._empty_since = math.inf
                return (
                    f"nobody is there since the start {NOBODY_YET:.0f} s ago, not even me ({self._myself}): "
                    "the name may be wrong, or no pod gets ready"
                )
        return None


def several_workers(environment: Mapping[str, str], process_number: int) -> str | None:
    """
    Return what to say where several processes of a pod think that they are it, or `None`.

    Args:
        environment: Of this process.
        process_number: Which child of its parent it is, or 0.
    """
    workers = environment.get("WEB_CONCURRENCY", "")
    if process_number > 1 or (workers.isdecimal() and int(workers) > 1):
        return (
            "several workers behind one port are all of them me, and each takes the keys of the pod for its "
            "own: run one process in each pod, and more pods"
        )
    return None
