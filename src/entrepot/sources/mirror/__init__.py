"""Mirrors of other indexes."""

from entrepot.sources.mirror.mirror import Mirror, Settings

__all__ = ["Mirror", "Settings"]
