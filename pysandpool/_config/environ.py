"""`SandboxConfig.env_vars`: environment variables as an immutable value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Union

from pysandpool._config.fields import Refuse

_ALLOWED = "a mapping of str to str or None"


class FrozenEnv(Mapping[str, Union[str, None]]):
    """Immutable environment variables. Hashable, and equal to any mapping with the same items."""

    __slots__ = ("_items",)
    _items: dict[str, str | None]

    def __init__(self, items: Mapping[str, str | None]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> str | None:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenEnv, (self._items,)

    def __repr__(self) -> str:
        return repr(self._items)


def frozen_env(refuse: Refuse, name: str, value: Any) -> FrozenEnv:
    """An immutable copy of a mapping of str to str or None. For None, an empty one."""
    if value is None:
        return FrozenEnv({})
    if not isinstance(value, Mapping):
        raise refuse(name, value, _ALLOWED, True)
    for key, text in value.items():
        if not isinstance(key, str) or not (text is None or isinstance(text, str)):
            raise refuse(name, {key: text}, _ALLOWED, True)
        if not key or "=" in key or "\0" in key or "\0" in (text or ""):
            raise refuse(name, {key: text}, "keys that are not empty and have no '='; no NUL in keys and values", False)
        if not _is_encodable(key + (text or "")):
            raise refuse(name, {key: text}, "text that can be encoded in the encoding of the file system", False)
    return FrozenEnv(value)


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
