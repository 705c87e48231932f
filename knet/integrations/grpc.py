"""
gRPC by way of a ring: a channel for each pod, connected before it is handed out. The extra `grpc`.

gRPC raises UNAVAILABLE for a connection that could not be made, for one that died with the work half done,
and for a handler that says so, and nothing tells them apart. So a channel is connected first, which proves
that nothing was sent where it fails, and the calls are made after that. What fails then leaves as it is.

`grpc.aio` is asyncio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from knet import Bound, ConfigError, Endpoint, Kept, KnetError, Pool, Ring, RingClosed

try:
    import grpc  # type: ignore[import-untyped]
    import grpc.aio  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError("grpcio is not installed: python -m pip install 'knet-ring[grpc]'") from error

__all__ = ["NotConnected", "RingChannels"]

# Milliseconds between two attempts of a channel to connect. A pod that comes back at its old address is
# not kept waiting for the two minutes that gRPC allows.
_FIRST_BACKOFF = 100
_MOST_BACKOFF = 1000


class NotConnected(KnetError, ConnectionError):
    """
    Raised when no pod could be connected to, so that nothing was sent.

    Attributes:
        timed_out: Nobody answered, rather than refused.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@final
class RingChannels:
    """
    A channel of `grpc.aio` for each pod: opened when it is first needed, kept, and closed when the pod has left.

        async with RingChannels(ring) as channels:
            async with channels.channel("user-42") as channel:
                reply = await ShopStub(channel).Buy(request, timeout=2)

    The channel is connected when it is handed out: where the pod of the key cannot be connected to, that is
    the next pod's, and the dead one is skipped for a while. From then on errors leave as they are, since
    nobody can say whether the call was done. The place at the pod counts as in flight until the block ends,
    and so do streams; a call must not outlive its block.

    Args:
        ring: Where the pods are; it must have ports, and run.
        credentials: Of `grpc.ssl_channel_credentials`; `None`: plain text.
        options: Channel arguments, which go before those that are set here.
        authority: The name that TLS verifies and that the server sees; `None`: `ring.service`.
        n: How many pods are tried, at most.
        bound: As for `Ring.call`.
        connect_timeout: Seconds for a pod to be connected to.
        grace: Seconds that calls have left when all of this is closed.

    Raises:
        ConfigError: An option is out of range.
        TypeError: *ring* is no `Ring`.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        credentials: Any = None,
        options: Sequence[tuple[str, Any]] = (),
        authority: str | None = None,
        n: int = 3,
        bound: float | Bound | None = None,
        connect_timeout: float = 2.0,
        grace: float = 5.0,
    ) -> None:
        if not isinstance(ring, Ring):
            raise TypeError(f"RingChannels are of a Ring, not of a {type(ring).__name__}")
        if not connect_timeout > 0:
            raise ConfigError(f"connect_timeout must be above 0, got {connect_timeout}")
        if not grace >= 0:
            raise ConfigError(f"grace must be at least 0, got {grace}")
        # They are checked where every channel is asked for; and here, where they are written.
        ring.attempts("", n=n, bound=bound)
        self._ring = ring
        self._n = n
        self._bound = bound
        self._credentials = credentials
        self._connect_timeout = connect_timeout
        own = {
            "grpc.default_authority": ring.service if authority is None else authority,
            # A pod is reached directly; and by a connection of its own, whose backoff ends with its channel.
            "grpc.enable_http_proxy": 0,
            "grpc.use_local_subchannel_pool": 1,
            "grpc.initial_reconnect_backoff_ms": _FIRST_BACKOFF,
            # How long it tries; who waits for it gives up before.
            "grpc.min_reconnect_backoff_ms": int(2000 * connect_timeout),
            "grpc.max_reconnect_backoff_ms": max(_MOST_BACKOFF, int(2000 * connect_timeout)),
        }
        self._options = tuple({**own, **dict(options)}.items())
        self._pool: Pool[grpc.aio.Channel] = Pool(ring, self._open, lambda c: c.close(grace))
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Close all channels; calls have `grace` seconds to end.
        """
        self._is_closed = True
        await self._pool.aclose()

    @asynccontextmanager
    async def channel(self, key: str | bytes) -> AsyncIterator[Any]:
        """
        Give the channel of the pod of *key*, or of the next pod that can be connected to.

        Raises:
            NotConnected: None of them could be.
            RingClosed: The ring, or this, is closed; also where that cut off a call in the block, which gRPC
                tells by a cancellation.
            RingMisused: This was not entered.
            NoEndpoints: There are no pods.
        """
        channel, kept = await self._connected(key)
        try:
            yield channel
        except asyncio.CancelledError as error:
            kept.forget()
            # gRPC raises a cancellation of its own, which a scope of anyio does not know for its own.
            await checkpoint_if_cancelled()
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise RingClosed(f"{self!r} was closed under a call for {key!r}") from error
            raise
        except BaseException:
            # It may be of anybody: of the handler, of another pod that it asked.
            kept.forget()
            raise
        else:
            kept.end()

    async def _connected(self, key: str | bytes) -> tuple[Any, Kept]:
        tries = self._pool.attempts(
            key, n=self._n, bound=self._bound, retry_on=NotConnected, eject_on=_speaks_against
        )
        while True:
            async with tries as channel:
                if channel.get_state() is not grpc.ChannelConnectivity.READY:
                    await self._connect(channel, tries.pod)
                return channel, tries.keep()

    async def _connect(self, channel: Any, pod: Endpoint | None) -> None:
        with anyio.move_on_after(self._connect_timeout):
            while True:
                state = channel.get_state(try_to_connect=True)
                if state is grpc.ChannelConnectivity.READY:
                    return
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise NotConnected(f"{pod} could not be connected to")
                if state is grpc.ChannelConnectivity.SHUTDOWN:
                    raise RingClosed(f"{self!r} was closed")
                await channel.wait_for_state_change(state)
        raise NotConnected(
            f"{pod} could not be connected to within {self._connect_timeout:g} s", timed_out=True
        )

    def _open(self, pod: Endpoint) -> Any:
        if pod.port is None:
            raise ConfigError(f"{pod} has no port to connect to: give the ring one, port=50051")
        family = "ipv6" if ":" in pod.address else "ipv4"
        target = f"{family}:{pod}"
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, self._options)
        return grpc.aio.secure_channel(target, self._credentials, self._options)

    def __repr__(self) -> str:
        return f"<RingChannels of {self._ring!r}{', closed' if self._is_closed else ''}>"


def _speaks_against(error: BaseException) -> int:
    if not isinstance(error, NotConnected):
        return 0
    return 2 if error.timed_out else 1
