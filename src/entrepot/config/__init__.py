"""What the server is told: TOML and defaults become frozen records, or one error that names every fault.

Keys are kebab-case. Any value may be `{ env = "NAME", default = "…" }`. Relative paths are relative to
the file they stand in. This package knows only our own keys; other tools' files are `migrate`'s.
"""

from entrepot.config.checks import checked, closure
from entrepot.config.reading import load
from entrepot.config.records import (
    DEFAULT_FILE,
    DEFAULT_STORE,
    INDEX_NAME,
    RESERVED,
    Access,
    Archives,
    Config,
    Folder,
    Hosted,
    IndexSettings,
    Mirror,
    Rule,
    Server,
    StoreSettings,
    Virtual,
)

__all__ = [
    "DEFAULT_FILE", "DEFAULT_STORE", "INDEX_NAME", "RESERVED", "Access", "Archives", "Config", "Folder", "Hosted",
    "IndexSettings", "Mirror", "Rule", "Server", "StoreSettings", "Virtual", "checked", "closure", "load",
]  # fmt: skip
