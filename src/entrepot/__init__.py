"""One Python package index over everything a team keeps packages in."""

__version__ = "0.1.0"
