"""Other views of an index: as it was on a day, and what of it is stored here. They are read, and take no uploads."""

from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from entrepot import rules
from entrepot.combine import Ruled
from entrepot.index import Mounted
from entrepot.web.site import View


def on_day(clock: Callable[[], datetime]) -> View:
    """`/{index}/+at/{day}/…`: only files that were uploaded up to the end of that day (UTC)."""

    def view(mounted: Mounted, request: Request) -> Mounted:
        day = rules.day(request.path_params["day"])
        name = f"+at/{day}"
        index = Ruled(mounted.index, [rules.at(day)], by=[name], clock=clock)
        return replace(mounted, name=f"{mounted.name}/{name}", index=index, sink=None, fallback=None)

    return view


def stored(mounted: Mounted, request: Request) -> Mounted:  # noqa: ARG001
    """`/{index}/local/…`: nobody else is asked."""
    index = mounted.local or mounted.index
    return replace(mounted, name=f"{mounted.name}/local", index=index, sink=None, fallback=None, everything=None)


async def no_uploads(request: Request) -> Response:  # noqa: ARG001
    raise HTTPException(405, "this is a view, which takes no uploads; publish to the index itself", {"Allow": ""})
