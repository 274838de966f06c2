"""Named things, Winnow's own and those of plugins: stages, sources, benchmarks, exports.

A plugin is an installed package with an entry point in the group of a registry (`winnow.stages` ...). The entry point's
name is the name in recipes. Plugins are looked for when a name is asked for that is not Winnow's own, or when all names
are listed. A plugin's module is imported when its name is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Generic, NamedTuple, TypeVar

Thing = TypeVar("Thing")


class PluginError(ImportError):
    """A plugin cannot be used; the message names the package, the entry point and the reason."""


class Package(NamedTuple):
    """The package that a plugin comes from."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Registry(Mapping[str, Thing], Generic[Thing]):
    """Name -> thing, Winnow's own first, in their order.

    group: of the entry points. own: Winnow's own. problem: (name, thing) -> what is wrong with a thing of a plugin, or
    an empty string.
    """

    def __init__(self, group: str, own: Mapping[str, Thing], problem: Callable[[str, object], str]) -> None:
        self.group = group
        self.own = dict(own)
        self._problem = problem

    def __getitem__(self, name: str) -> Thing:
        """Raises: KeyError: if there is none. PluginError: if a plugin cannot be loaded, or a name is taken twice."""
        return self.own[name] if name in self.own else self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Raises: PluginError: if a name is taken twice."""
        for name in self._entries:
            self._entry(name)
        return iter([*self.own, *sorted(self._entries)])

    def __len__(self) -> int:
        return len(self.own) + len(self._entries)

    def package(self, name: str) -> Package | None:
        """The package of a plugin's thing; None for Winnow's own. Raises: as `[name]`."""
        return None if name in self.own else self._entry(name)[1]

    def origin(self, name: str) -> dict[str, str]:
        """What the key of a step has in addition: the plugin's package with its version. Empty for Winnow's own."""
        package = self.package(name)
        return {} if package is None else {"plugin": str(package)}

    @functools.cached_property
    def _entries(self) -> dict[str, list[tuple[metadata.EntryPoint, Package]]]:
        found: dict[str, dict[str, tuple[metadata.EntryPoint, Package]]] = {}
        for entry in metadata.entry_points(group=self.group):
            assert entry.dist is not None
            package = Package(entry.dist.metadata["Name"], entry.dist.version)
            # An environment may list a package twice (installed, and from a folder on the path): the first one counts.
            found.setdefault(entry.name, {}).setdefault(package.name, (entry, package))
        return {name: list(packages.values()) for name, packages in found.items()}

    def _entry(self, name: str) -> tuple[metadata.EntryPoint, Package]:
        entries = self._entries.get(name)
        if entries is None:
            raise KeyError(name)
        packages = sorted(str(package) for _, package in entries)
        if name in self.own:
            packages.append("Winnow itself")
        if len(packages) > 1:
            raise PluginError(
                f"{self.group}: {name!r} is declared by {' and by '.join(packages)}; uninstall one of them"
            )
        return entries[0]

    def _load(self, name: str) -> Thing:
        entry, package = self._entry(name)
        where = f"{package}: {self.group}: {name} = {entry.value}"
        try:
            thing: Thing = entry.load()
        except Exception as error:  # a plugin may raise anything on import
            raise PluginError(f"{where}: cannot be imported: {type(error).__name__}: {error}") from error
        if problem := self._problem(name, thing):
            raise PluginError(f"{where}: {problem}")
        return thing


def expect(kind: type[Thing], named: Callable[[Thing], str]) -> Callable[[str, object], str]:
    """A check for things that are values of one class and know their name."""

    def problem(name: str, thing: object) -> str:
        if not isinstance(thing, kind):
            return f"expected a {kind.__name__}, not {type(thing).__name__}"
        return "" if named(thing) == name else f"its name is {named(thing)!r}, and must be that of the entry point"

    return problem
