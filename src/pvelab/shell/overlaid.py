"""A folder that machines share, in which each sees links of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from pvelab.shell.entries import Entry


class Overlaid(MutableMapping[str, Entry]):
    """The children of a shared folder with some of one's own on top; what is written goes to the shared ones."""

    def __init__(self, shared: MutableMapping[str, Entry], own: Mapping[str, Entry]) -> None:
        self._shared, self._own = shared, own

    def __getitem__(self, name: str) -> Entry:
        return self._own[name] if name in self._own else self._shared[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._shared[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._shared[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._shared, **self._own})

    def __len__(self) -> int:
        return len(self._shared.keys() | self._own.keys())
