"""Every result of a language model, kept once on disk.

The store is what makes a second run instant, a killed run resume and a notebook repeat itself. It is one SQLite
file in WAL mode: a batch of results is a transaction, so a kill at any moment leaves whole batches only, and two
processes may use it at once (https://sqlite.org/wal.html). Each entry carries a checksum.

Opening checks the schema only, so that it takes as long for a large file as for a small one: a damaged value is noticed
when it is read, and a damaged key, which no lookup finds, when the results are counted (`python -m course_lib cache`).
"""

import hashlib
import json
import os
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.errors import CacheError
from course_lib.paths import cache_folder

# SQLite keeps this text in the file, where it is compared.
TABLE = """CREATE TABLE results (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, created REAL NOT NULL, checksum INTEGER NOT NULL, value TEXT NOT NULL
) WITHOUT ROWID"""
LOOKUP = 500  # keys in one SELECT; SQLite builds may allow as few as 999 parameters
WAIT = 60  # seconds for another process to finish writing
# SQLite calls it a plain error when a damaged schema does not fit our statements.
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def result_key(*parts: Any) -> str:
    """The hex sha256 of JSON-able `parts`: equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class ResultCache:
    """A mapping from key to JSON-able value in `folder/results.sqlite`, opened on first use.

    Raises `CacheError` when the folder cannot be written or the disk is full. A damaged entry is reported on
    standard error and treated as absent; a damaged file is set aside under another name and a new one begun. A file
    that was cut to nothing looks like a new one, and nothing is reported.
    """

    def __init__(self, folder: Path | str | None = None):
        self.path = Path(folder or cache_folder()) / "results.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"ResultCache({str(self.path)!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those `keys` that are stored and sound."""
        found = {}
        for start in range(0, len(keys), LOOKUP):
            chunk = keys[start : start + LOOKUP]
            marks = ",".join("?" * len(chunk))
            rows = self._run(f"SELECT key, checksum, value FROM results WHERE key IN ({marks})", chunk)
            found.update(self._sound(rows))
        return found

    def put_many(self, results: Mapping[str, Any], model: str) -> None:
        """Store all `results` of `model`, or none of them."""
        now = time.time()
        packed = {key: json.dumps(value, separators=(",", ":")) for key, value in results.items()}
        rows = [(key, model, now, _checksum(key, text), text) for key, text in packed.items()]
        self._run("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows, many=True)

    def summary(self) -> list[tuple[str, int, int]]:
        """`(model, results, bytes of text)` for each model."""
        return self._run("SELECT model, COUNT(*), SUM(LENGTH(value)) FROM results GROUP BY model ORDER BY model")

    def count_damaged(self) -> int:
        """How many results are damaged, those included that no lookup finds; all are read for it."""
        statement = "SELECT key, checksum, value FROM results"
        return self._run(statement, read=lambda rows: sum(not _is_sound(*row) for row in rows))

    def clear(self, older_than_days: float | None = None, model: str | None = None) -> int | None:
        """Delete results, all (and the damaged files) or those that match; how many went, None if unknown. Weights stay."""
        where, values = ["1"], []
        if older_than_days is not None:
            where.append("created < ?")
            values.append(time.time() - older_than_days * 86400)
        if model is not None:
            where.append("model = ?")
            values.append(model)
        if not values:
            self._delete(self.damaged_files())
        chosen, count = f"FROM results WHERE {' AND '.join(where)}", None
        try:
            [(count,)] = self._run(f"SELECT COUNT(*) {chosen}", values)
            self._run(f"DELETE {chosen}", values)
            self._run("VACUUM")
        except CacheError as error:
            # On a full disk SQLite can neither open the file nor delete from it; deleting the file takes no room.
            if values or _primary(error.__cause__) not in NO_ROOM:
                raise
            self.close()
            with self._alone():
                self._delete(self.files())
        return count

    def copy_to(self, folder: Path) -> None:
        """Write all results into another folder, as they are now."""
        self.summary()  # sets a damaged file aside
        with self._lock, sqlite3.connect(Path(folder) / self.path.name) as target:
            self._open().backup(target)
        target.close()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def files(self) -> list[Path]:
        """The files that the results lie in now."""
        names = (self.path.name + suffix for suffix in ("", "-wal", "-shm"))
        return [file for name in names if (file := self.path.with_name(name)).exists()]

    def damaged_files(self) -> list[Path]:
        """The files that were set aside."""
        return sorted(self.path.parent.glob("results.damaged-*"))

    def _delete(self, files: list[Path]) -> None:
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise self._explained(error) from error

    def _sound(self, rows: list[tuple[str, int, str]]) -> dict[str, Any]:
        sound = {key: json.loads(value) for key, checksum, value in rows if _is_sound(key, checksum, value)}
        if len(sound) < len(rows):
            _report(f"{len(rows) - len(sound)} damaged results in {self.path} are made again")
        return sound

    def _run(self, statement: str, values: Sequence = (), many: bool = False, read: Callable = list) -> Any:
        with self._lock:
            try:
                return self._execute(statement, values, many, read)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if not self._is_damage(error):
                    raise self._explained(error) from error
            self._set_aside()
            try:
                return self._execute(statement, values, many, read)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._explained(error) from error

    def _execute(self, statement: str, values: Sequence, many: bool, read: Callable) -> Any:
        with self._open() as connection:
            execute = connection.executemany if many else connection.execute
            return read(execute(statement, values))

    def _open(self) -> sqlite3.Connection:
        # Another process may have set the file aside, or deleted it; what went into that one would be lost.
        if self._connection is not None and _identity(self.path) == self._opened:
            return self._connection
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._explained(error) from error
        with self._alone():
            self._connection = sqlite3.connect(self.path, timeout=WAIT, check_same_thread=False)
            self._opened = _identity(self.path)
            try:
                _prepare(self._connection)
            except BaseException:
                self.close()
                raise
        return self._connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening the file, setting it aside or deleting it meanwhile."""
        try:
            lock = sqlite3.connect(self.path.with_name("results.lock"), timeout=WAIT, isolation_level=None)
            # Else it would want to write a journal, which a full disk does not take.
            lock.execute("PRAGMA journal_mode=MEMORY")
            lock.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._explained(error) from error
        try:
            yield
        finally:
            lock.close()

    def _is_damage(self, error: Exception) -> bool:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY:
            # A damaged header can say so too.
            return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        # SQLite's messages quote the damaged text.
        return isinstance(error, UnicodeDecodeError) or _primary(error) in DAMAGED

    def _set_aside(self) -> None:
        self.close()
        aside = self.path.with_name(f"results.damaged-{time.time_ns()}.sqlite")
        with self._alone():
            if _identity(self.path) != self._opened:
                return  # another process was first, and has begun a new file
            for file in self.files():
                file.rename(aside.with_name(file.name.replace(self.path.name, aside.name)))
        _report(f"{self.path} was damaged; it is kept as {aside.name} and its results are made again")

    def _explained(self, error: Exception) -> CacheError:
        return CacheError(
            f"The results in {self.path} cannot be read or written ({error}). What was stored before is safe. "
            "Free some space (`python -m course_lib cache --clear` deletes all results) or mend the permissions, or set "
            "COURSE_LIB_CACHE to another folder, and run again."
        )


def _primary(error: BaseException | None) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html), 0 if the error is none of SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _prepare(connection: sqlite3.Connection) -> None:
    # A damaged byte may be no UTF-8; it must reach the checksum, which tells it apart.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(TABLE.replace("TABLE", "TABLE IF NOT EXISTS", 1))
    stored = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'results'").fetchall()
    if [_plain(sql) for (sql,) in stored] != [_plain(TABLE)]:
        raise DamagedSchema(f"the schema is {stored}")


def _plain(sql: str) -> str:
    # Earlier versions wrote the same table with other line ends.
    return " ".join(str(sql).split())


class DamagedSchema(sqlite3.DatabaseError):
    """A file that SQLite can read, but whose table is not ours."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _checksum(key: str, value: str) -> int:
    return zlib.crc32(f"{key} {value}".encode("utf-8", "surrogatepass"))


def _is_sound(key: str, checksum: int, value: str) -> bool:
    # Until November 2026 the key was no part of it, and results of then are still good.
    return checksum == _checksum(key, value) or checksum == zlib.crc32(str(value).encode("utf-8", "surrogatepass"))


def _report(message: str) -> None:
    print(f"course_lib: {message}", file=sys.stderr, flush=True)


@cache
def _cache_at(folder: Path) -> ResultCache:
    return ResultCache(folder)


def default_cache() -> ResultCache:
    """The store in the folder that `COURSE_LIB_CACHE` names now; one connection per folder and process."""
    return _cache_at(cache_folder())
