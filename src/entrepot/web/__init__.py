"""HTTP: the fronts, the hot path, pages, files, uploads."""

from entrepot.web.app import AsgiSite, fronted
from entrepot.web.site import Site

__all__ = ["AsgiSite", "Site", "fronted"]
