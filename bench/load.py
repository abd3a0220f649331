"""Load by wrk: one short, bounded run, and its summary in numbers."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Unmeasured

SUMMARY = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nSUMMARY {"requests": %d, "microseconds": %d, "failed": %d, "refused": %d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.timeout, e.status))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard to press; always by one wrk thread, with which every server does better than with two."""

    connections: int = 32
    seconds: int = 3


def press(wrk: Path, url: str, headers: dict[str, str], load: Load) -> float:
    """Good answers per second; `Unmeasured` if one of them is not good."""
    script = Path(__file__).parent / ".work" / "summary.lua"
    script.write_text(SUMMARY)
    command = [wrk, "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", "60s", "-s", script]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(
        [*map(str, command), url], capture_output=True, text=True, check=False, timeout=load.seconds + 120
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("SUMMARY ")), "")
    if not line:
        raise Unmeasured(f"wrk said {(done.stderr or done.stdout).strip()[-200:]}")
    summary = json.loads(line.removeprefix("SUMMARY "))
    if not summary["requests"]:
        raise Unmeasured(f"no answer at all in {load.seconds} s")
    if summary["failed"] or summary["refused"]:
        raise Unmeasured(f"{summary['failed']} requests failed and {summary['refused']} were refused under load")
    return float(summary["requests"] / (summary["microseconds"] / 1e6))
