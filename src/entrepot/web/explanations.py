"""`/{index}/explain/{project}/`: why a page is as it is, in JSON."""

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from entrepot.explain import explain
from entrepot.web.pages import identified, moved, named
from entrepot.web.site import Site, check_read


class Explanations(Struct, frozen=True):
    """The handler of explanations."""

    site: Site

    async def project(self, request: Request) -> Response:
        """Who may read the page may know why it is so."""
        mounted, name = self.site.mounted(request), named(request)
        if request.path_params["project"] != name:
            return moved(self.site, request, name)
        check_read(mounted, await identified(self.site, request), name)
        body = msgspec.json.encode(await explain(mounted, name))
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(body, media_type="application/json", headers=headers)
