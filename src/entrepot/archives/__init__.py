"""Archives: versioned files that are no Python packages, with movable channels such as `latest`."""

from entrepot.archives.hosted import HostedArchives
from entrepot.archives.model import LATEST, Archive, Archives, Offer, Summary, Version
from entrepot.archives.tycho import TychoArchives

__all__ = ["LATEST", "Archive", "Archives", "HostedArchives", "Offer", "Summary", "TychoArchives", "Version"]
