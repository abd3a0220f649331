"""What the bench brings along itself: wrk and nginx by apt, the Python rivals in an environment of theirs."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Unmeasured

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PACKAGES = {"wrk": "wrk", "nginx": "nginx-light"}  # program: Debian package
# program: distributions
RIVALS = {
    "pypi-server": ("pypiserver",),
    "devpi-server": ("devpi-server",),
    "gunicorn": ("proxpi", "gunicorn"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    entrepot: Path
    wrk: Path
    nginx: Path
    rivals: Path  # the folder of pypi-server, devpi-server and devpi-init

    def versions(self) -> dict[str, str]:
        listed = subprocess.run(
            [self.rivals / "python", "-m", "pip", "list", "--format=freeze"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        pinned = dict(line.split("==") for line in listed.splitlines() if "==" in line)
        return {
            "entrepot": _first_line([self.entrepot, "--version"]).removeprefix("entrepot "),
            "nginx": _first_line([self.nginx, "-v"]).removeprefix("nginx version: nginx/"),
            "pypiserver": pinned.get("pypiserver", "not installed"),
            "devpi-server": pinned.get("devpi-server", "not installed"),
            "proxpi": pinned.get("proxpi", "not installed"),
            "wrk": _first_line([self.wrk, "-v"]).removeprefix("wrk ").split(" Copyright")[0],
            "Python": sys.version.split()[0],
        }


def ensure(work: Path, entrepot: Path) -> Tools:
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=SEARCH)]
    if missing:
        _by_apt(missing)
    rivals = work / "venv" / "bin"
    if not all((rivals / program).exists() for program in RIVALS):
        _by_pip(work / "venv")
    return Tools(entrepot=entrepot, wrk=_which("wrk"), nginx=_which("nginx"), rivals=rivals)


def _by_apt(packages: list[str]) -> None:
    print("apt-get install", *packages, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: cannot install {' and '.join(packages)} ({error}); install them, then run it again")


def _by_pip(environment: Path) -> None:
    """The rivals from the index that pip is configured for; without one the others are measured alone."""
    wanted = [name for names in RIVALS.values() for name in names]
    print("installing", *wanted, "into", environment, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    pip: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-qq",
    ]
    done = subprocess.run([*pip, "install", *wanted], check=False)
    if done.returncode:
        print("bench: the rivals cannot be installed; they will be shown as not measured", flush=True)


def _which(program: str) -> Path:
    found = shutil.which(program, path=SEARCH)
    if not found:
        raise Unmeasured(f"{program} is not installed")
    return Path(found)


def _first_line(command: list[str | Path]) -> str:
    """What a program says of its version, on whichever stream."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError as error:
        return f"not there ({error.strerror})"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "unknown")
