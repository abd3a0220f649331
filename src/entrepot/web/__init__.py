"""HTTP: the fronts, the hot path, pages, files, uploads."""

from entrepot.web.app import AsgiSite, RsgiSite
from entrepot.web.site import Site

__all__ = ["AsgiSite", "RsgiSite", "Site"]
