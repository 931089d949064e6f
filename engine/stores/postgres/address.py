"""What the address of a database says, and how it may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict

DEFAULT_SCHEMA = "workflow_engine"

# What an address may say otherwise. A dead network must show before an operator gives up, and after a failover the
# server to write to is the one that takes writes.
DEFAULTS: Mapping[str, Any] = {
    "application_name": "workflow-engine",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "target_session_attrs": "read-write",
}
# A name that need not be quoted, and that no query can take for something else.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@attrs.frozen
class Address:
    """Of a database, and of the schema in it that the tables are in."""

    options: Mapping[str, Any] = attrs.field(repr=False)
    """For libpq. Among these is the password, so this is never shown."""
    schema: str
    shown: str
    """As it may be shown."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read it; raises `ValueError`, which shows nothing of it, since where it is broken its password may be."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            schema = query.pop("schema", DEFAULT_SCHEMA)
            options = conninfo_to_dict(urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))))
        except (ValueError, psycopg.Error):
            raise ValueError(
                "the address of a PostgreSQL database cannot be read (it is not shown, for it may hold a password); "
                "write postgresql://user:password@host:5432/database, with what is special in a password as %XX"
            ) from None
        if not _NAME.fullmatch(schema):
            raise ValueError(f"schema={schema!r} must be of a-z, 0-9 and _, at most 63, beginning with no digit")
        return cls({**DEFAULTS, **options, "client_encoding": "UTF8"}, schema, _shown(options, schema))


def _shown(options: Mapping[str, Any], schema: str) -> str:
    hosts = str(options.get("host") or "").split(",")
    ports = str(options.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    where = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    user = f"{quote(options['user'])}@" if options.get("user") else ""
    suffix = f"?schema={schema}" if schema != DEFAULT_SCHEMA else ""
    return f"postgresql://{user}{where}/{quote(str(options.get('dbname') or ''))}{suffix}"
