"""What inspecting a distribution file tells, in one record."""

from msgspec import Struct

from entrepot.errors import Invalid
from entrepot.wire.filenames import Distribution
from entrepot.wire.metadata import CoreMetadata


class Inspection(Struct, frozen=True, kw_only=True):
    """A distribution file and what is wrong with it.

    `safety` problems refuse the file always. `form` problems refuse it on upload; a folder, an import or a
    copy keeps the file and marks it `legacy` with the first of them.
    """

    distribution: Distribution
    metadata: CoreMetadata
    metadata_bytes: bytes | None = None  # a wheel's METADATA, exactly as it is in the file (PEP 658)
    pkg_info: bytes | None = None  # an sdist's PKG-INFO
    safety: tuple[Invalid, ...] = ()
    form: tuple[Invalid, ...] = ()

    @property
    def problems(self) -> tuple[Invalid, ...]:
        """All of them, the graver ones first."""
        return self.safety + self.form
