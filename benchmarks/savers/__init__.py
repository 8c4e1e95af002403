"""The savers that are measured, each behind an adapter.

A further saver is a further adapter class and a line in `ADAPTERS`; what it is set against is
said in `benchmarks.parts`.
"""

from __future__ import annotations

from benchmarks.savers.base import Adapter, Session
from benchmarks.savers.files import LangcairnFiles
from benchmarks.savers.memory import (
    EncryptedMemory,
    LangcairnMemory,
    OfficialMemory,
    SignedMemory,
)
from benchmarks.savers.objects import LangcairnObjects
from benchmarks.savers.postgres import LangcairnPostgres, LeasedPostgres, OfficialPostgres
from benchmarks.savers.sqlite import (
    EncryptedSqlite,
    LangcairnSqlite,
    OfficialSqlite,
    RetainingSqlite,
    SignedSqlite,
)
from benchmarks.savers.valkey import LangcairnValkey, RawValkey

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        OfficialSqlite(),
        LangcairnSqlite(),
        OfficialMemory(),
        LangcairnMemory(),
        OfficialPostgres(),
        LangcairnPostgres(),
        RawValkey(),
        LangcairnValkey(),
        LangcairnFiles(),
        LangcairnObjects(),
        RetainingSqlite(),
        LeasedPostgres(),
        EncryptedSqlite(),
        SignedSqlite(),
        EncryptedMemory(),
        SignedMemory(),
    )
}

__all__ = ["ADAPTERS", "Adapter", "Session"]
