"""What the options before the command say, and the store that they mean."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langcairn.cli.escaping import without_passwords
from langcairn.cli.urls import path_of, scheme_of
from langcairn.errors import (
    AlreadyThere,
    CorruptData,
    DecryptionFailed,
    ForgedData,
    InvalidInput,
    StoreMisconfigured,
    UnsafeType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langcairn.cli.printing import Printer
    from langcairn.store import CheckpointStore

_NO_STORE = (
    "which store? Give --store URL or set LANGCAIRN_STORE: sqlite:///agent.db, "
    "postgresql://user@host/database, redis://host, file:///directory"
)
LOCAL = ("memory", "sqlite", "file")
"""The kinds of stores that need no server."""
REDIS = ("redis", "rediss", "valkey", "valkeys", "unix")
"""Those that Redis and Valkey serve."""

OFFICIAL_KEYS = "the store is empty, but its database has keys of langgraph-checkpoint-redis"
"""What to say where `official_keys_instead`."""
LACKS_OBJECTS = "content of this store was moved to object storage"
"""What to say where `lacks_objects`."""
SAY_OBJECTS = (
    "Say where that is with --objects URL or LANGCAIRN_OBJECTS; of what migrate reads, with "
    "--source-option objects=URL."
)
"""What to do then."""
PATIENCE = 3.0
"""How long to wait for a server [s]."""
_FOREIGN = ("was made by langgraph-checkpoint", "was made by LangGraphGo",
            "tables of langgraph-checkpoint")  # fmt: skip
_KEY = (
    "Here: --encryption env:NAME or file:PATH, with the key it was written with; of what migrate "
    "reads, --source-option encryption=env:NAME"
)
# A kind of error, words of its message, and what to do about it on the command line. The first
# that fits: messages speak of arguments in Python.
_HINTS: tuple[tuple[type[Exception], str, str], ...] = (
    (
        UnsafeType,
        "module is not loaded",
        "Name the module that has the type: langcairn --import MODULE …",
    ),
    (AlreadyThere, "existing=", "Here: --existing skip, or --existing replace"),
    (InvalidInput, "parents=[", "Here: restore --parent FILE, for each backup that it builds on"),
    (CorruptData, "salvage=True", "Here: restore --salvage"),
    (ForgedData, "trusted=True", "Here: restore --trusted"),
    (ForgedData, "its signing_key", "Here: --signing-key env:NAME or file:PATH"),
    (
        DecryptionFailed,
        "restore(…, encryption=",
        "Here: restore --backup-key env:NAME or file:PATH",
    ),
    (
        DecryptionFailed,
        "another encrypt_metadata",
        "Here: --option encrypt_metadata=true if it was written with encrypt_metadata=True, and "
        "without that option if it wasn't",
    ),
    (DecryptionFailed, "with its key (encryption=", _KEY),
    (DecryptionFailed, "the keys given are", _KEY),
)


@dataclass
class Session:
    """One call of the command.

    Attributes:
        url: The store's URL; ``""`` if none was given.
        options: Options of the store that aren't in its URL: keys, and what ``--option`` says.
        as_json: Whether to print JSON for programs, not text for people.
        debug: Whether to show where errors come from.
        modules: Modules to import, whose types stored data may need.
    """

    url: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False
    debug: bool = False
    modules: tuple[str, ...] = ()
    _printer: Printer | None = None

    @property
    def out(self) -> Printer:
        """What prints results."""
        if self._printer is None:
            from langcairn.cli.printing import Printer  # noqa: PLC0415 -- rich is slow to import

            self._printer = Printer(as_json=self.as_json)
        return self._printer

    def open(self, *, must_exist: bool = True, exact: bool = True) -> CheckpointStore:
        """Open the store.

        Args:
            must_exist: Refuse a store that isn't there, which would be made.
            exact: Load values as what they were. Otherwise those whose type isn't loaded are
                loaded as stand-ins, to be looked at and not to be written.

        Raises:
            InvalidInput: No store is named, or there is no such store.
            StoreMisconfigured: There is none; or content is in objects, and not said where.
            StoreUnavailable: The server can't be reached.
        """
        if not self.url:
            raise InvalidInput(_NO_STORE)
        return self.open_other(self.url, must_exist=must_exist, exact=exact, **self.options)

    def open_other(
        self, url: str, *, must_exist: bool = True, exact: bool = True, **options: Any
    ) -> CheckpointStore:
        """Open any store, as `open` does."""
        from langcairn.codec.standins import InspectingSerializer  # noqa: PLC0415 -- as above
        from langcairn.opening import open_store  # noqa: PLC0415 -- as above

        scheme_of(url)
        if must_exist:
            check_exists(url, options)
        is_there = must_exist or _is_there(url)
        self.import_modules()
        if scheme_of(url) not in LOCAL:
            # Whoever types a wrong address shouldn't wait as long as a service does for its server.
            with open_store(url, **{"deadline": PATIENCE, **options}) as probe:
                probe.test_connection()
        if not exact:
            options["serde"] = InspectingSerializer()
        store = open_store(url, **options)
        try:
            if is_there:
                _check_objects(store)
            if must_exist and official_keys_instead(url, options, store):
                self.out.note(f"{OFFICIAL_KEYS}. {_takeover(without_passwords(url))}")
        except BaseException:
            store.close()
            raise
        return store

    def import_modules(self) -> None:
        """Import what was named with ``--import``.

        Raises:
            InvalidInput: A module can't be imported.
        """
        sys.path.insert(0, "")  # as `python -m` has it: the user's own modules
        try:
            for name in self.modules:
                try:
                    import_module(name)
                except Exception as error:  # the user's module may raise anything
                    raise InvalidInput(
                        f"--import {name}: {type(error).__name__}: {error}"
                    ) from error
        finally:
            sys.path.remove("")

    @property
    def place(self) -> str:
        """The store's URL without a password."""
        return without_passwords(self.url)

    def hint(self, error: Exception) -> str | None:
        """Return what to do about an error, where its message doesn't say it."""
        if isinstance(error, StoreMisconfigured) and any(one in str(error) for one in _FOREIGN):
            return self.takeover
        said = str(error)
        return next(
            (hint for kind, words, hint in _HINTS if isinstance(error, kind) and words in said),
            None,
        )

    @property
    def takeover(self) -> str:
        """How to get at threads that another saver has left where the store is to be."""
        return _takeover(self.place)


def read_options(words: Iterable[str]) -> dict[str, Any]:
    """Return options that are written as ``name=value``; numbers and truth values as such.

    Raises:
        InvalidInput: One isn't.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name:
            raise InvalidInput(f"{word!r} is no option: write table_name=agents")
        options[name] = _value(text)
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _takeover(place: str) -> str:
    return f"To take its threads over into a new store: langcairn --store NEW_URL migrate '{place}'"


def official_keys_instead(url: str, options: dict[str, Any], store: CheckpointStore) -> bool:
    """Tell whether a store is empty and its database has keys of langgraph-checkpoint-redis.

    Both may be in one database, so that alone is no mistake.
    """
    if scheme_of(url) not in REDIS or store.executions(limit=1):
        return False
    from langcairn.cli.redis_servers import has_official_keys  # noqa: PLC0415 -- its driver may not be there

    return has_official_keys(url, options)


def check_exists(url: str, options: Mapping[str, Any]) -> None:
    """Refuse a store that isn't there yet, which opening it would make.

    Raises:
        StoreMisconfigured: There is no such file, or no table of checkpoints in it.
        StoreUnavailable: The server can't be reached.
    """
    from langcairn.cli.tables import DATABASES, columns_of, table_of  # noqa: PLC0415 -- as above

    path = path_of(url)
    if path is not None and not path.exists():
        raise StoreMisconfigured(
            f"there is no {path}: a store is made there when something is saved. Check the path "
            "(sqlite:///relative.db, sqlite:////absolute.db)"
        )
    if scheme_of(url) not in DATABASES:
        return
    try:
        columns = columns_of(url, options)
    except StoreMisconfigured:
        return  # opening the store, which makes nothing then either, says more exactly why
    if not columns:
        raise StoreMisconfigured(
            f"there is no store in {without_passwords(url)}: it has no table "
            f"{table_of(url, options)!r}. One is made there when something is saved. Check the "
            "URL, and table_name and schema, if the store has others than usual: --option "
            "table_name=agents"
        )


def _is_there(url: str) -> bool:
    """Tell whether the file or directory of a store is there; of servers only they know."""
    path = path_of(url)
    return path is None or path.exists()


def _check_objects(store: CheckpointStore) -> None:
    """Refuse a store whose moved content would pass for damaged, and be dropped by a repair."""
    if lacks_objects(store):
        raise StoreMisconfigured(f"{LACKS_OBJECTS}. {SAY_OBJECTS}")


def lacks_objects(store: CheckpointStore) -> bool:
    """Tell whether content of a store is in object storage, and it wasn't said where."""
    from langcairn.objects.naming import was_moved  # noqa: PLC0415 -- as above

    return store.tiered() is None and store.run(was_moved())
