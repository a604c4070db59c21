"""The connection to the ledger's database: SQLite in WAL mode or PostgreSQL, with one write path for both."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from zhiwen.common.errors import ConfigurationError, ServiceError, Unavailable

BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Short transactions on the ledger's database.

    `clock` returns the time in seconds since 1970. Every method raises `Unavailable` (`ledger-unavailable`) when the
    database does not answer, and `Unavailable` (`disk-full`) when it has no space left. Any other database error is a
    defect and passes through.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self._clock = clock
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._texts: dict[sa.Select[Any], tuple[str, Sequence[str], Sequence[str] | None]] = {}

    def now(self) -> float:
        """Return the time in seconds since 1970, rounded to microseconds.

        `datetime` is no more exact than that, and a client must find a row again by the time that it was shown.
        """
        return round(self._clock(), 6)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state and writes nothing."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    def look_up(self, statement: sa.Select[Any], **values: Any) -> list[dict[str, Any]]:
        """Run a statement on the driver, without SQLAlchemy; return its rows as the driver gives them.

        `from_driver` converts JSON columns. The statement is compiled once and cached. Every question runs such
        statements, and SQLAlchemy would take several times as long as the query itself.
        """
        text, names, order = self._texts.get(statement) or self._text_of(statement)
        dialect = self.engine.dialect.loaded_dbapi
        try:
            with _translated(), closing(self.engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(text, values if order is None else [values[name] for name in order])
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except (dialect.OperationalError, dialect.InterfaceError) as exc:
            raise _outage(exc) from exc

    def _text_of(self, statement: sa.Select[Any]) -> tuple[str, Sequence[str], Sequence[str] | None]:
        compiled = statement.compile(self.engine)
        names = [str(column.key) for column in statement.selected_columns]
        found = str(compiled), names, compiled.positiontup if compiled.positional else None
        self._texts[statement] = found
        return found

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction. It is committed when the block ends, and rolled back when it raises.

        On SQLite the transaction holds the only write lock from its beginning, so reading and then writing is atomic.
        On PostgreSQL the caller locks the rows that its decision depends on.
        """
        with (
            _translated(),
            self.engine.connect().execution_options(zhiwen_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def ping(self) -> None:
        """Raise `Unavailable` unless the database answers and holds the ledger's tables."""
        with self.read() as connection:
            connection.execute(sa.text("SELECT 1 FROM knowledge_bases LIMIT 1"))

    def migrate(self) -> None:
        """Bring the tables to the newest revision. Several processes may call this at once."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with _translated(), _migration_lock(self), self.engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as exc:
        raise ConfigurationError("ZHIWEN_DATABASE_URL is not a database URL.") from exc
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=20, pool_recycle=1800)


def _sqlite_engine(url: sa.URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=10, max_overflow=20)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by its own rules
        cursor = connection.cursor()
        # FULL: a committed row survives a power cut, also in WAL mode (sqlite.org/pragma.html#pragma_synchronous).
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_SECONDS * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("zhiwen_write", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:  # this takes no lock and cannot fail; SQLAlchemy's way costs more than the query that a search runs
            connection.connection.cursor().execute("BEGIN")

    return engine


_local_lock = threading.Lock()


@contextmanager
def _migration_lock(database: Database) -> Iterator[None]:
    """Let one process migrate at a time: an advisory lock on PostgreSQL, a lock file beside the SQLite file."""
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(7417253)"))
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT pg_advisory_unlock(7417253)"))
                connection.commit()
        return
    import fcntl

    path = database.engine.url.database
    if not path or path == ":memory:":
        with _local_lock:
            yield
        return
    with open(f"{path}.migrate", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "53100"})
"""The error codes of a full disk: two of SQLite (the database, and the shared-memory file of its WAL), and
PostgreSQL's `disk_full`."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ServiceError:
        raise
    except (OperationalError, InterfaceError, PoolTimeoutError) as exc:
        raise _outage(getattr(exc, "orig", None)) from exc
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise _outage(exc.orig) from exc
        raise


def _outage(error: BaseException | None) -> Unavailable:
    """Return the error to raise when the driver says that the disk is full or that the database does not answer."""
    if _NO_ROOM & {getattr(error, "sqlite_errorname", None), getattr(error, "sqlstate", None)}:
        return Unavailable("disk-full", "There is no space left for the ledger; nothing was stored.", status=507)
    return Unavailable("ledger-unavailable", "The ledger's database does not answer; try again shortly.")


def from_driver(value: Any) -> Any:
    """Return the value of a JSON column of `look_up`: SQLite's driver gives text, PostgreSQL's driver the value."""
    return orjson.loads(value) if isinstance(value, str) else value


def new_id() -> str:
    """Return a new random identifier: 32 hex digits."""
    return uuid.uuid4().hex


def utc_datetime(seconds: float) -> datetime:
    """Return seconds since 1970 as a UTC time."""
    return datetime.fromtimestamp(seconds, UTC)
