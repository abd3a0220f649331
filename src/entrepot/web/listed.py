"""The list of all projects there are, `?all=1`: written while it is read, since it may have hundreds of thousands."""

from collections.abc import AsyncIterator, Callable, Sequence

from starlette.types import Receive, Scope, Send

from entrepot.http1 import Answer, Headers, head
from entrepot.index import Names
from entrepot.model import ProjectName
from entrepot.threads import finished
from entrepot.web.answers import compressor
from entrepot.web.asgi import encoded, send_answer
from entrepot.wire.listing import Rendering
from entrepot.wire.negotiate import Format

# Of the names those that the caller may read.
Readable = Callable[[Sequence[ProjectName]], Sequence[ProjectName]]


class Listed:
    """The list as a Starlette response. A failure on the way cuts the connection, so that no list is a short one."""

    def __init__(self, names: Names, readable: Readable, *, format_: Format, coding: str, headers: Headers) -> None:
        self._names = names
        self._readable = readable
        self._rendering = Rendering(format_)
        self._compressor = compressor(coding)
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        batches = self._names.batches
        try:
            if scope["method"] == "HEAD":
                await send_answer(send, Answer(head(200, self._headers)))
                return
            await send({"type": "http.response.start", "status": 200, "headers": encoded(self._headers)})
            await self._send(batches, send)
        except OSError:
            return  # the client went away: drivers raise our own errors
        finally:
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()

    async def _send(self, batches: AsyncIterator[Sequence[ProjectName]], send: Send) -> None:
        await _put(send, self._packed(self._rendering.head))
        async for batch in batches:
            # In a thread: others wait for pages meanwhile.
            await _put(send, await finished(self._rendered, batch))
        last = self._packed(self._rendering.tail)
        if self._compressor is not None:
            last += self._compressor.flush()
        await send({"type": "http.response.body", "body": last})

    def _rendered(self, batch: Sequence[ProjectName]) -> bytes:
        return self._packed(self._rendering.batch(self._readable(batch)))

    def _packed(self, data: bytes) -> bytes:
        return self._compressor.compress(data) if self._compressor is not None else data


async def _put(send: Send, data: bytes) -> None:
    if data:  # a compressor holds back what is not worth a block
        await send({"type": "http.response.body", "body": data, "more_body": True})
