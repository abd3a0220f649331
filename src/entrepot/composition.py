"""What stands in front of what: the indexes of the configuration, made of its sources.

A name goes this way, outermost first:
1. `own`: no mirror is asked for such a name (`Either`, `Reserved`); what a virtual index inside owns is owned as well
2. the rules of the index (`Ruled`); those of a virtual one see the files of mirrors only, unless `rules-for = "all"`
3. `merge`: the files of all members together (`Either`, `Merge`)
4. else the first member that knows the name (`First`), which says who it is when it fails (`Member`)
5. the member's own way from 2 on, down to the source
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import cast

from msgspec.structs import replace

from entrepot import rules
from entrepot.combine import Either, Everything, First, Member, Merge, Reserved, Ruled
from entrepot.config import Config, Mirror, Virtual, closure
from entrepot.index import Index, Layer, Names, Source, Upstreamed
from entrepot.model import ProjectName

# What stands in the tree for a source of that name: itself, a part of it, or nothing.
Leaf = Callable[[str], Index | None]
Passes = Callable[[ProjectName], bool]


class Composition:
    """Makes the indexes. `sources` are those that own bytes, by name."""

    def __init__(self, config: Config, sources: Mapping[str, Source], *, clock: Callable[[], datetime]) -> None:
        self._indexes = config.index
        self._sources = sources
        self.clock = clock
        self._behind = {name: closure(config, name) for name in config.index}

    def layer(self, name: str) -> Layer:
        """The index of that name, and what it is made of."""
        layer = self._layer(name, self._sources.__getitem__)
        own = self._own(name)
        if not own:
            return layer
        private = Reserved(self._layer(name, self._private).index)
        return replace(layer, index=Either(rules.names(own), private, layer.index), own=own)

    def local(self, name: str) -> Index | None:
        """What of the index is stored here; None if all of it is."""
        if not any(self._mirrors(name)):
            return None
        local = self._layer(name, self._stored).index
        own = self._own(name)
        return Either(rules.names(own), self._layer(name, self._private).index, local) if own else local

    def everything(self, name: str, index: Index) -> Callable[[], Awaitable[Names]] | None:
        """The names of the index with all that its upstreams have; None if it asks none."""
        owns = rules.names(self._own(name))
        beyond = [(mirror, partial(_passes, owns, passing)) for mirror, passing in self._beyond(name)]
        return Everything(index, beyond).names if beyond else None

    def sources_of(self, name: str) -> tuple[Source, ...]:
        """The sources behind an index in their order, each once."""
        return tuple(self._sources[member] for member in self._behind[name] if member in self._sources)

    def fallback(self, name: str) -> Upstreamed | None:
        """The mirror to which clients are sent for what the index does not have."""
        settings = self._indexes[name]
        redirects = isinstance(settings, Virtual) and settings.fallback is not None
        return next(self._mirrors(name), None) if redirects else None

    def rivals(self, sink: str) -> Callable[[ProjectName], tuple[Upstreamed, ...]]:
        """The mirrors that stand behind this sink in any virtual index that does not own the name."""
        hidden = [
            (rules.names(self._own(name)), tuple(self._mirrors(name, after=sink)))
            for name, settings in self._indexes.items()
            if isinstance(settings, Virtual) and sink in self._behind[name]
        ]

        def rivals(name: ProjectName) -> tuple[Upstreamed, ...]:
            found = {mirror.name: mirror for owns, mirrors in hidden if not owns(name) for mirror in mirrors}
            return tuple(found.values())

        return rivals

    def _layer(self, name: str, leaf: Leaf) -> Layer:
        """Without `own`, which counts for the whole: see `layer`. A source for which nothing stands is left out."""
        settings = self._indexes[name]
        kind = str(settings.__struct_config__.tag)
        if not isinstance(settings, Virtual):
            return Layer(name=name, kind=kind, index=self._ruled(name, leaf(name) or First(())))
        inner = leaf if settings.fallback is None else self._only_private(leaf)
        members = tuple(self._layer(member, inner) for member in settings.of if self._is_there(member, inner))
        index = _together([_member(member, len(members), of=name) for member in members], settings)
        return Layer(
            name=name, kind=kind, index=self._ruled(name, index), members=members, own=settings.own,
            merge=settings.merge,
        )  # fmt: skip

    def _beyond(self, name: str) -> Iterator[tuple[Upstreamed, tuple[Passes, ...]]]:
        """The mirrors behind an index by every way that leads to them, and what their names must pass on it."""
        settings = self._indexes[name]
        passing = tuple(passes for rule in settings.rules if (passes := rules.passing(rule.said)) is not None)
        if self._is_mirror(name):
            yield cast("Upstreamed", self._sources[name]), passing
        elif isinstance(settings, Virtual) and settings.fallback is None:
            for member in settings.of:
                for mirror, inner in self._beyond(member):
                    yield mirror, passing + inner

    def _is_there(self, name: str, leaf: Leaf) -> bool:
        return name not in self._sources or leaf(name) is not None

    def _ruled(self, name: str, index: Index) -> Index:
        settings = self._indexes[name]
        built = [rules.build(rule.said) for rule in settings.rules]
        if isinstance(settings, Virtual) and settings.rules_for != "all":
            own = frozenset(source.name for source in self.sources_of(name) if not self._is_mirror(source.name))
            built = [rules.sparing(own, rule) for rule in built]
        by = [f"index.{name}.rules[{number}]" for number in range(len(built))]
        return Ruled(index, built, by=by, clock=self.clock) if built else index

    def _own(self, name: str) -> tuple[str, ...]:
        """The patterns of the index, and of the virtual ones inside: what they own must not leak past them."""
        virtual = (self._indexes[member] for member in self._behind[name])
        return tuple(text for settings in virtual if isinstance(settings, Virtual) for text in settings.own)

    def _is_mirror(self, name: str) -> bool:
        return isinstance(self._indexes[name], Mirror)

    def _mirrors(self, name: str, *, after: str | None = None) -> Iterator[Upstreamed]:
        sources = iter(self.sources_of(name))
        if after is not None:
            sources = itertools.dropwhile(lambda source: source.name != after, sources)
        return (cast("Upstreamed", source) for source in sources if self._is_mirror(source.name))

    def _private(self, name: str) -> Index | None:
        """No mirror."""
        return None if self._is_mirror(name) else self._sources[name]

    def _stored(self, name: str) -> Index | None:
        """Of a mirror what it keeps."""
        source = self._sources[name]
        return cast("Upstreamed", source).local() if self._is_mirror(name) else source

    def _only_private(self, leaf: Leaf) -> Leaf:
        """Clients ask a mirror themselves where they are redirected to it."""
        return lambda name: None if self._is_mirror(name) else leaf(name)


def _passes(owns: Passes, passing: tuple[Passes, ...], name: ProjectName) -> bool:
    return not owns(name) and all(passes(name) for passes in passing)


def _member(layer: Layer, of_how_many: int, *, of: str) -> Index:
    if layer.members or of_how_many == 1:
        return layer.index  # it names its own
    hint = f"names in `own` of index.{of} are answered without it" if layer.kind == "mirror" else ""
    return Member(layer.index, name=layer.name, hint=hint)


def _together(members: Sequence[Index], settings: Virtual) -> Index:
    """One member needs no search: a virtual index of it is the same under another name."""
    if len(members) == 1:
        return members[0]
    first = First(members)
    return Either(rules.names(settings.merge), Merge(members), first) if settings.merge else first
