"""Pure codecs: what crosses the wire, in both directions. No I/O, no async."""
