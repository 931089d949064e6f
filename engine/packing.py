"""What a journal must be able to keep is packed before anything is decided: later it would be too late to refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from .values import Reducer, Update

_MISSING: Any = object()
# Scalars that can be told to be unchanged by their value. Of floats only those that are not zero: -0.0 equals 0.0.
_SCALARS: Final = frozenset({int, str, bool, bytes, float})


class Packer(Protocol):
    """What a run is given as `journal=` so that its records carry values in the form in which they are written."""

    def update(self, values: Mapping[str, Any], where: str) -> Any:
        """These values packed; the run keeps the result in `record.packed` and never looks into it.

        Among the values may be the engine's own `Replace`, `Contributions`, `Signal` and `ItemError`.
        Raises an `EngineError` that names `where` and the path, if something of them cannot be kept.
        """
        ...


def changes(update: Update, values: Mapping[str, Any], reducers: Mapping[str, Reducer]) -> Update:
    """An update without the keys that it sets to what they are: `{**state, "x": 1}` is not written out each time.

    It means the same. Where others are live, setting a key to an equal value is no change; where no other is, it
    makes no difference. A reducer's key always counts.
    """
    old = [key for key, value in update.items() if key not in reducers and _unchanged(value, values.get(key, _MISSING))]
    if not old:
        return update
    return {key: value for key, value in update.items() if key not in old}


def _unchanged(value: Any, before: Any) -> bool:
    if value is before:
        return True
    kind = type(value)
    if kind not in _SCALARS or kind is not type(before):
        return False
    return bool(value == before and (value or kind is not float))
