"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import attrs

from .refusals import Forbidden, Unauthenticated

Scope = Literal["read", "submit", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@attrs.frozen
class Principal:
    """Who asks.

    `read` looks at graphs, runs and metrics, `submit` starts runs and acts on them, `admin` defines graphs, reads the
    audit log and may do all the rest. `submit` does not include `read`: a program that only hands work in need not
    see what others do.
    """

    name: str
    scopes: frozenset[Scope]

    def may(self, needed: Scope) -> bool:
        """Whether it may do this."""
        return needed in self.scopes or "admin" in self.scopes

    def shown_scopes(self) -> list[str]:
        """In their order."""
        return [scope for scope in SCOPES if scope in self.scopes]


ANYBODY: Final = Principal("anybody", frozenset(SCOPES))
"""Who asks where no keys are: on loopback, or of an operator who said `--insecure`."""


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """Names as scopes; raises `ValueError` for what is none."""
    found = set(names)
    if unknown := sorted(found - set(SCOPES)):
        raise ValueError(f"unknown scopes {', '.join(map(repr, unknown))}: there are {', '.join(SCOPES)}")
    if not found:
        raise ValueError(f"a key without scopes may do nothing: give it some of {', '.join(SCOPES)}")
    return frozenset(scope for scope in SCOPES if scope in found)


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Who sent this request; raises `Unauthenticated` where no guard has found out, so that none is forgotten."""
    principal = (scope.get("state") or {}).get("principal")
    if not isinstance(principal, Principal):
        raise Unauthenticated("this needs an API key: Authorization: Bearer <key>")
    return principal


def allowed(scope: Mapping[str, Any], needed: Scope) -> Principal:
    """Who sent this request, if they may do what they ask; raises `Unauthenticated` or `Forbidden`."""
    principal = principal_of(scope)
    if not principal.may(needed):
        raise Forbidden(principal.name, needed, principal.shown_scopes())
    return principal
