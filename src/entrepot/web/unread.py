"""The rest of a request's body, when the answer is known before all of it has come."""

import asyncio
import contextlib

from starlette.types import Message, Receive

from entrepot.web.warm import Header

_MOST = 64 << 20  # bytes that are read for nothing
_STALL = 5.0  # seconds without a byte
_ALTOGETHER = 30.0  # seconds


class Unread:
    """A body, and whether more of it is to come.

    A client that is still writing when the connection is closed sees a reset, and not the answer that tells it
    what is wrong (RFC 9112 §9.6). So what it sends is read to the end, within limits.
    """

    def __init__(self, receive: Receive, header: Header) -> None:
        self._receive = receive
        self._to_come = header("transfer-encoding") is not None or header("content-length") not in {None, "0"}
        # It sends nothing unless we read, or until a while has passed (RFC 9110 §10.1.1).
        self._waits = "100-continue" in (header("expect") or "").lower()

    async def receive(self) -> Message:
        """As ASGI's. Once a wait for more was given up, nothing is expected to come any more."""
        self._to_come = self._waits = False
        message = await self._receive()
        self._to_come = bool(message.get("more_body"))
        return message

    async def drain(self) -> None:
        """Read what is left."""
        if self._waits or not self._to_come:
            return
        left = _MOST
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALTOGETHER):
                while left > 0:
                    async with asyncio.timeout(_STALL):
                        message = await self.receive()
                    if not message.get("more_body"):
                        return
                    left -= len(message.get("body", b""))
