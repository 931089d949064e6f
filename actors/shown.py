"""Values in messages: a text that is never long and never fails, whatever the value."""

from __future__ import annotations

from typing import Final

# Enough to know a value by. A message may hold a megabyte, and error texts are logged, sent and chained.
SHOWN_CHARACTERS: Final = 200


def shown(value: object) -> str:
    """Return the `repr` of a value, cut short; one that raises is named by its type."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
