"""Numbers and names of our own: not even the child of a fork uses its parent's."""

import subprocess
import sys

from entrepot.stores import uniqueness

_FORK = """
import os
from entrepot.stores import uniqueness
uniqueness.number()
child = os.fork()
os.write(1, f"{uniqueness.number()} {uniqueness.name()}\\n".encode())
if child:
    os.waitpid(child, 0)
"""


def test_nothing_comes_twice() -> None:
    assert len({uniqueness.number() for _ in range(1000)} | {uniqueness.name() for _ in range(1000)}) == 2000


def test_a_number_fits_into_a_mark_and_a_name_into_a_path() -> None:
    assert 0 <= uniqueness.number() < 1 << 63
    assert uniqueness.name().isalnum()


def test_a_forked_process_has_its_own() -> None:
    parent, child = subprocess.check_output([sys.executable, "-c", _FORK], text=True).splitlines()
    (number, name), (other_number, other_name) = parent.split(), child.split()
    assert abs(int(number) - int(other_number)) > 1000
    assert name[:32] != other_name[:32]
