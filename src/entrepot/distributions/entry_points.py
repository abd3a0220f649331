"""entry_points.txt: installers make executable scripts of it, so names must not be paths."""

import re
from configparser import Error, RawConfigParser
from typing import Final

from entrepot.distributions.findings import Findings, shown

_SCRIPTS: Final = ("console_scripts", "gui_scripts")
_NAME: Final = re.compile(r"[\w.-]+\Z")
# module:object [extra]; the object is what a script calls (entry points specification, "Data model").
_REFERENCE: Final = re.compile(
    r"[^\W\d]\w*(\.[^\W\d]\w*)*\s*:\s*[^\W\d]\w*(\.[^\W\d]\w*)*\s*(\[[\w\s,.-]*\])?\Z",
)


class _CaseSensitive(RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def check(data: bytes, findings: Findings, *, at: str) -> None:
    """Notes what is wrong with the file's text and with each script in it."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        findings.malformed("the file is not UTF-8", at=at)
        return
    # Only "=": the colon belongs to the object reference.
    parser = _CaseSensitive(delimiters=("=",), default_section="\0", empty_lines_in_values=False)
    try:
        parser.read_string(text)
    except Error as error:
        findings.malformed(f"the file is no valid INI text: {shown(str(error))}", at=at)
        return
    for group in _SCRIPTS:
        if parser.has_section(group):
            for name, reference in parser.items(group):
                _check_script(name, reference, findings, at=f"{at}: {group}")


def _check_script(name: str, reference: str, findings: Findings, *, at: str) -> None:
    if not _NAME.match(name) or not name.strip("."):
        findings.malformed(f"the script name {shown(name)!r} is not allowed", at=at, hint="use letters, digits, - _ .")
    if not _REFERENCE.match(reference):
        findings.malformed(
            f"{shown(reference)!r} is no object reference", at=at, hint="for example package.module:main"
        )
