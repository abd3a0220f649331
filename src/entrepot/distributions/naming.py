"""What a file would be called if it were built today."""

from pathlib import Path

from entrepot.distributions import sdists, wheels
from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings
from entrepot.distributions.limits import DEFAULT
from entrepot.errors import Invalid
from entrepot.model import is_valid_name, normalise
from entrepot.wire import filenames, metadata


def current_name(file: Path | bytes, filename: str) -> str:
    """By the name and version in the metadata of the file, which is given by its path or whole (PEP 427, PEP 625).

    What is no wheel by its name is looked at as an sdist, whatever it is called. Where nothing can be told it is the
    filename as it was: the checks of an upload say why. Only its head is read, nothing is judged.
    """
    try:
        with Contents(file) as contents:
            if filename.endswith(".whl"):
                distribution = filenames.parse(filename)
                data = wheels.read_metadata(contents, distribution, Findings(), DEFAULT)
                build = f"-{distribution.build}" if distribution.build else ""
                ending = f"{build}-{distribution.tags}.whl"
            else:
                data, ending = sdists.read_metadata(contents, Findings(), DEFAULT), ".tar.gz"
    except Invalid:
        return filename
    found = metadata.parse(data)
    version = metadata.parsed_version(found.version)
    if version is None or not is_valid_name(found.name):
        return filename
    return f"{normalise(found.name).replace('-', '_')}-{version}{ending}"
