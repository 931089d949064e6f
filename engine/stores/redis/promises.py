"""What a Redis server can promise: that depends on its settings, which are its operator's, and are only read here."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

WAITAOF_SINCE = (7, 2)


@attrs.frozen(kw_only=True)
class Settings:
    """Of a server; None is what it does not tell."""

    appendonly: bool | None
    appendfsync: str | None
    maxmemory: int | None
    policy: str | None
    version: tuple[int, int]

    @classmethod
    def of(cls, config: Mapping[str, str] | None, info: Mapping[str, str]) -> Settings:
        """Of what CONFIG GET says, which a managed server may refuse, and INFO, which none does."""
        said = config or {}
        major, minor = info["redis_version"].split(".")[:2]
        aof = said.get("appendonly", info.get("aof_enabled"))
        maxmemory = said.get("maxmemory", info.get("maxmemory"))
        return cls(
            appendonly=None if aof is None else aof in ("yes", "1"),
            appendfsync=said.get("appendfsync"),
            maxmemory=None if maxmemory is None else int(maxmemory),
            policy=said.get("maxmemory-policy", info.get("maxmemory_policy")),
            version=(int(major), int(minor)),
        )

    @property
    def may_evict(self) -> bool:
        """Whether it removes keys that nobody told it to; those that have no end, as all of ours."""
        return self.maxmemory != 0 and (self.policy is None or self.policy.startswith("allkeys"))

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged survives the death of the server's process, and so of ours."""
        return self.appendonly is True and not self.may_evict

    @property
    def waits(self) -> bool:
        """Whether it can be asked to wait until what is written has reached its disk, where it does not by itself."""
        return self.appendonly is True and self.appendfsync != "always" and self.version >= WAITAOF_SINCE

    @property
    def power_safe(self) -> bool:
        """Whether a commit with `sync` survives a power cut."""
        return self.durable and (self.appendfsync == "always" or self.waits)

    def notes(self) -> list[str]:
        """What an operator should know: how a run that was acknowledged could be lost."""
        return [note for note in (self._about_the_file(), self._about_power(), self._about_memory()) if note]

    def _about_the_file(self) -> str:
        if self.appendonly is None:
            return "whether it keeps an append-only file could not be checked: it tells neither CONFIG nor INFO"
        if not self.appendonly:
            return "appendonly is off: runs are lost whenever the server ends (set appendonly yes, appendfsync always)"
        return ""

    def _about_power(self) -> str:
        if not self.appendonly or self.appendfsync == "always":
            return ""
        found = "is not told" if self.appendfsync is None else f"is {self.appendfsync!r}"
        if self.waits:
            return (
                f"appendfsync {found}: what is not committed with sync may be lost in a power cut, and a run that "
                f"goes on in a living engine is broken then (set appendfsync always)"
            )
        return (
            f"appendfsync {found}: a power cut may lose what was acknowledged last; before Redis 7.2, which can be "
            f"asked to wait (WAITAOF), only 'always' is safe"
        )

    def _about_memory(self) -> str:
        if not self.may_evict:
            return ""
        if self.policy is None:
            return "whether it removes keys when its memory is full could not be checked (maxmemory-policy)"
        return f"maxmemory-policy is {self.policy!r}: it may remove runs when its memory is full (set noeviction)"
