"""What every handler works with, and the two questions that all of them ask: who is it, and may they."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct
from starlette.requests import Request

from entrepot.access import ANONYMOUS, OPEN, Caller, Permission, Tokens
from entrepot.archives import Archives
from entrepot.errors import Denied, NotFound
from entrepot.index import Catalog, Mounted
from entrepot.model import ProjectName
from entrepot.web.problems import Unauthorised, shortened
from entrepot.web.proxies import Proxies

# Another view of the index that a request names: its Mounted in place of the index's own.
View = Callable[[Mounted, Request], Mounted]


class Site(Struct, frozen=True, kw_only=True):
    """The collaborators, made once by the composition root. Sizes in bytes, times in seconds."""

    catalog: Catalog
    tokens: Tokens
    clock: Callable[[], datetime]
    proxies: Proxies = Proxies(())
    loopback: bool = True  # the bind is a loopback address: Host names are checked
    hosts: tuple[str, ...] = ()  # Host names answered beside the loopback ones
    path: str = ""  # the sub-path of the deployment
    open: bool = False  # who has no token may write
    max_upload: int = 4 << 30
    max_uploads: int = 16  # at once in this process
    stall: float = 60.0
    page_cache: int = 48 << 20
    max_age: int = 0
    instance: str = ""  # what our requests upstream say of us in `Via`
    archives: Mapping[str, Archives] = {}  # by the name of the hosted index
    view: View = lambda mounted, _: mounted

    def mounted(self, request: Request) -> Mounted:
        """The index that the URL names, the default one if it names none. Raises `NotFound`."""
        name = request.path_params.get("index", self.catalog.default)
        try:
            return self.view(self.catalog.indexes[name], request)
        except KeyError:
            # Nobody learns here of an index that may not be read without a token.
            known = ", ".join(sorted(name for name, mounted in self.catalog.indexes.items() if not mounted.guarded))
            raise NotFound(f"no index {shortened(name)!r}", hint=known and f"here are: {known}") from None

    async def caller(self, request: Request) -> Caller:
        """Who sends the request. Raises `Unauthorised` for credentials that are wrong."""
        return await self.holder(request.headers.get("authorization"))

    async def holder(self, authorization: str | None) -> Caller:
        """Who holds these credentials; nobody if there are none. Raises `Unauthorised` if they are wrong."""
        if not authorization:
            return ANONYMOUS
        try:
            return await self.tokens.caller(authorization.encode("latin-1", "replace"), now=self.clock())
        except Denied as error:
            raise Unauthorised(str(error)) from error

    async def writer(self, request: Request) -> Caller:
        """Who wants to write. With `--open` that may be anybody who does not come through a proxy.

        Credentials that are no token are then passed over: twine asks for some, and people make them up.
        """
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        made_up = self.open and not self.tokens.may_be_ours(given)
        caller = ANONYMOUS if made_up else await self.caller(request)
        if caller.token is not None:
            return caller
        if not self.open:
            raise Unauthorised("this needs a token", hint="`entrepot token create NAME --can upload` makes one")
        if self.proxies.was_forwarded(request.headers):
            raise Denied(
                "the request came through a proxy, and --open is for direct clients only",
                hint="publish with a token",
            )
        return OPEN


def check_read(mounted: Mounted, caller: Caller, project: ProjectName | None = None) -> None:
    """Raises `Unauthorised` for nobody, `NotFound` for a token that may not read it: to them it does not exist."""
    if caller.may_read(mounted.guarded, project):
        return
    if caller.token is None:
        raise Unauthorised("this index is read with a token", hint="pip: put it into the URL as the password")
    raise NotFound(f"no project {project}" if project else f"no index {mounted.name!r}")


def allowed_on(mounted: Mounted) -> tuple[str, ...]:
    """The names under which a grant for writing to this index may have been given: its own and its sink's."""
    return (mounted.name, mounted.sink.name) if mounted.sink is not None else (mounted.name,)


def may(caller: Caller, permission: Permission, mounted: Mounted, project: ProjectName | None = None) -> bool:
    return caller.may(permission, indexes=allowed_on(mounted), project=project)


def may_take_over(caller: Caller, mounted: Mounted, project: ProjectName) -> bool:
    """Whether it may publish under a name that is known elsewhere: it manages, or was made for that very project."""
    return may(caller, "manage", mounted, project) or caller.is_for(project)
