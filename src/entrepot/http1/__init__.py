"""HTTP/1.1 (RFC 9112), as far as a server of packages needs it: the hot path from socket to answer.

It knows nothing of packages. `docs/decisions/008-own-http.md` says why it is ours.
"""

from entrepot.http1.answers import Answer, Head, Headers, head, plain
from entrepot.http1.connection import Connection, Handler
from entrepot.http1.exchange import Exchange
from entrepot.http1.files import ClientGone
from entrepot.http1.requests import Request
from entrepot.http1.serving import Serving

__all__ = [
    "Answer", "ClientGone", "Connection", "Exchange", "Handler", "Head", "Headers", "Request", "Serving", "head",
    "plain",
]  # fmt: skip
