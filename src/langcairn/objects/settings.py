"""Where packs are kept, and what goes there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIB, _MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, kw_only=True)
class ObjectStorage:
    """Where a store's older and larger content is kept, outside of its database.

    Attributes:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://account/container/prefix`` or
            ``file:///directory``. Several stores may share one: none touches what is another's.
        after: Content of checkpoints taken longer ago than this moves [seconds].
        larger: Chunks of this size or more move whatever their age [bytes].
        smaller: Chunks below this size stay in the database [bytes].
        every: How often this process moves what it stored, in a thread of its own [seconds]. None:
            only `langcairn.CheckpointStore.move_to_objects` moves, as from a cron job.
        pack_bytes: The size of a pack [bytes, about].
        least_bytes: What an execution must have to move before it gets a pack for it [bytes].
        cache_bytes: How much of what was read to keep in memory [bytes].
        grace: How long an object that nothing refers to is left alone, as it may belong to a move
            that is still under way [seconds]. Safety doesn't depend on it.
        options: Further arguments of `obstore.store.from_url`: ``endpoint``, ``region``,
            ``access_key_id``, ``client_options``, ``retry_config``, ….

    Raises:
        InvalidInput: A value can't be used as it is.
    """

    url: str
    after: timedelta | float = timedelta(days=1)
    larger: int = 128 * _KIB
    smaller: int = 256
    every: timedelta | float | None = timedelta(minutes=5)
    pack_bytes: int = 8 * _MIB
    least_bytes: int = 64 * _KIB
    cache_bytes: int = 32 * _MIB
    grace: timedelta | float = timedelta(minutes=15)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold a secret

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or ":" not in self.url:
            raise InvalidInput(
                f"objects={self.url!r}: it is a URL, as s3://bucket/prefix or file:///directory"
            )
        for name in ("larger", "smaller", "least_bytes", "cache_bytes"):
            _check(name, getattr(self, name), 0)
        _check("pack_bytes", self.pack_bytes, 1)
        if self.pack_bytes > 1 << 30:
            raise InvalidInput(f"pack_bytes={self.pack_bytes}: at most 1 GiB, packs are in memory")
        for name in ("after", "every", "grace"):
            value = getattr(self, name)
            if value is None and name == "every":
                continue
            if isinstance(value, timedelta):
                value = value.total_seconds()
            if type(value) not in (int, float) or not 0 <= value < 1e10:
                raise InvalidInput(f"{name}={value!r}: it is a timedelta or a number of seconds")
        if self.interval == 0:
            raise InvalidInput("every=0: give a number of seconds, or None for no background moves")

    @property
    def interval(self) -> float | None:
        """The time between moves in the background [seconds]."""
        return None if self.every is None else _seconds(self.every)

    def cutoff(self) -> datetime:
        """Return the time before which content is old."""
        return datetime.now(UTC) - timedelta(seconds=_seconds(self.after))

    def latest(self) -> datetime:
        """Return the time since which an object is left alone."""
        return datetime.now(UTC) - timedelta(seconds=_seconds(self.grace))

    @classmethod
    def of(cls, objects: str | ObjectStorage) -> ObjectStorage:
        """Return the settings that a URL or settings stand for.

        Raises:
            InvalidInput: They can't be used.
        """
        if isinstance(objects, ObjectStorage):
            return objects
        if isinstance(objects, str):
            return cls(url=objects)
        raise InvalidInput(f"objects= is a URL or an ObjectStorage, not {type(objects).__name__}")


def _check(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise InvalidInput(f"{name}={value!r}: it is a number of bytes, at least {least}")


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
