"""`Registry`: things of one kind by name (networks, strategies, metrics, rules), and which file brought each.

A user's file in `extensions/` may add to any of them, and takes back what it added when it changes or goes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from bus_mlops.errors import BusMlopsError

T = TypeVar("T")


class Registry(dict[str, T], Generic[T]):
    """Things of one kind by name, in the order in which they were added; `kind` is the word for messages."""

    _all: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str, error: type[BusMlopsError]) -> None:
        super().__init__()
        self._kind = kind
        self._error = error
        self._module_of: dict[str, str] = {}
        Registry._all.append(self)

    def add(self, name: str, item: T, module: str) -> None:
        """Add a thing that a module brings.

        Raises:
            BusMlopsError: The registry's own; there is another of the same name.
        """
        if name in self:
            raise self._error(f"{self._kind} {name!r} is registered twice.")
        self[name] = item
        self._module_of[name] = module

    def get_known(self, name: str) -> T:
        """The thing of that name.

        Raises:
            BusMlopsError: The registry's own; lists the names.
        """
        try:
            return self[name]
        except KeyError:
            raise self._error(f"unknown {self._kind} {name!r}; there are: {', '.join(sorted(self))}.") from None

    def forget(self, module: str) -> None:
        """Take back what a module has added."""
        for name in [name for name, of in self._module_of.items() if of == module]:
            self.pop(name, None)
            del self._module_of[name]

    @classmethod
    def forget_everywhere(cls, module: str) -> None:
        """Take back what a module has added to any registry."""
        for registry in cls._all:
            registry.forget(module)
