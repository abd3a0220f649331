"""Zstandard: in the standard library from Python 3.14 on, before that its backport."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ZstdCompressor", "compressed", "decompressed"]

ZstdCompressor = zstd.ZstdCompressor


def compressed(data: bytes) -> bytes:
    """By level 1. Of a page hashes are the most, which do not compress: higher levels only take longer."""
    return zstd.compress(data, level=1)


def decompressed(data: bytes) -> bytes:
    return zstd.decompress(data)
