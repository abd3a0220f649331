"""One run's places and doses, and the rule that only the measured server runs while the others are paused."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import corpus
from bench.install import Tools
from bench.load import Load, press
from bench.processes import Running, Unmeasured

# What the slower servers bear best; pypiserver may need more than a second for one page.
SLOW = {"devpi": Load(connections=8), "pypiserver": Load(connections=1, seconds=6)}


@dataclass(slots=True, kw_only=True)
class Lab:
    tools: Tools
    work: Path
    shape: corpus.Shape
    rounds: int
    seconds: int
    uploads: int  # wheels per round of uploads
    growth: tuple[int, ...]  # sizes of a project at which an upload is timed
    quick: bool = False
    running: list[Running] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.work / ("corpus-quick" if self.quick else "corpus")

    @property
    def scratch(self) -> Path:
        """Where this run's servers keep their data; emptied before and after."""
        return self.work / "run"

    def log(self, name: str) -> Path:
        return self.work / "logs" / f"{name}.log"

    def fresh(self, name: str) -> Path:
        """An empty folder of that name in the scratch place."""
        place = self.scratch / name
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        return place

    def load(self, contender: str, connections: int = 32) -> Load:
        known = SLOW.get(contender)
        if known is None:
            return Load(connections=connections, seconds=self.seconds)
        return Load(connections=known.connections, seconds=min(max(known.seconds, self.seconds), 3 * self.seconds))

    def press(self, server: Running, url: str, headers: dict[str, str], load: Load) -> float:
        """One wrk run against `server` while all the others stand still; its log is emptied afterwards."""
        with self.alone(server):
            rate = press(self.tools.wrk, url, headers, load)
        for log in (server.log, *server.log.parent.glob("access.log")):
            with contextlib.suppress(OSError):
                log.open("r+b").truncate(0)
        return rate

    @contextlib.contextmanager
    def alone(self, server: Running) -> Iterator[None]:
        for other in self.running:
            if other is not server:
                other.pause()
        server.resume()
        try:
            yield
        finally:
            for other in self.running:
                other.resume()

    @contextlib.contextmanager
    def explaining(self, server: Running) -> Iterator[None]:
        """Add the end of the server's log to the reason why something could not be measured."""
        try:
            yield
        except Unmeasured as error:
            raise Unmeasured(f"{error} (its log ends: {server.tail() or 'empty'})") from error

    @contextlib.contextmanager
    def keeping(self, server: Running) -> Iterator[None]:
        """Stop the server at the end, whatever happens in between."""
        self.running.append(server)
        try:
            yield
        finally:
            self.running.remove(server)
            server.stop()
