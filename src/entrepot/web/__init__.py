"""HTTP: the ASGI app, the hot path, pages, files, uploads."""

from entrepot.web.app import create_app
from entrepot.web.site import Site

__all__ = ["Site", "create_app"]
