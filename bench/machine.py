"""The machine the figures come from: figures without it say nothing."""

import os
import platform
from pathlib import Path

BUSY = 0.3  # load per core


def description(folder: Path) -> dict[str, str]:
    cpu = _values("/proc/cpuinfo", ":")
    virtual = " (a virtual machine)" if "hypervisor" in cpu.get("flags", "") else ""
    memory = int(_values("/proc/meminfo", ":").get("MemTotal", "0 kB").split()[0]) / 1024 / 1024
    return {
        "CPU": f"{cpu.get('model name', platform.processor() or 'unknown')}{virtual}",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GiB",
        "kernel": platform.release(),
        "system": _values("/etc/os-release", "=").get("PRETTY_NAME", "unknown").strip('"'),
        "file system": _file_system(folder),
        "load before the run": _load(),
    }


def _load() -> str:
    """A machine that does other work gives no figures worth quoting; the report must tell."""
    load = os.getloadavg()[0]
    busy = load > BUSY * len(os.sched_getaffinity(0))
    return f"{load:.2f} over a minute" + (": **not idle, so all the figures are distorted**" if busy else "")


def _values(path: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(separator)
        found.setdefault(key.strip(), value.strip())
    return found


def _file_system(folder: Path) -> str:
    """Kind, device and options of the mount that holds `folder`."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    device, _, kind, options, *_ = max(holding, key=lambda mount: len(mount[1]))
    return f"{kind} on {device} ({options})"
