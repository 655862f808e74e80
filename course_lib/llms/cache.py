"""Every result of a language model, kept once on disk.

The store is what makes a second run instant, a killed run resume and a notebook repeat itself. It is one SQLite
file in WAL mode: a batch of results is a transaction, so a kill at any moment leaves whole batches only, and two
processes may use it at once (https://sqlite.org/wal.html). Each entry carries a checksum.
"""

import hashlib
import json
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.errors import CacheError
from course_lib.paths import cache_folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, created REAL NOT NULL, checksum INTEGER NOT NULL, value TEXT NOT NULL
) WITHOUT ROWID
"""
LOOKUP = 500  # keys in one SELECT; SQLite builds may allow as few as 999 parameters
WAIT = 60  # seconds for another process to finish writing
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def result_key(*parts: Any) -> str:
    """The hex sha256 of JSON-able `parts`: equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class ResultCache:
    """A mapping from key to JSON-able value in `folder/results.sqlite`, opened on first use.

    Raises `CacheError` when the folder cannot be written or the disk is full. A damaged entry is reported on
    standard error and treated as absent; a damaged file is set aside under another name and a new one begun.
    """

    def __init__(self, folder: Path | str | None = None):
        self.path = Path(folder or cache_folder()) / "results.sqlite"
        self._connection: sqlite3.Connection | None = None
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
        rows = [(key, model, now, *_packed(value)) for key, value in results.items()]
        self._run("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows, many=True)

    def summary(self) -> list[tuple[str, int, int]]:
        """`(model, results, bytes of text)` for each model."""
        return self._run("SELECT model, COUNT(*), SUM(LENGTH(value)) FROM results GROUP BY model ORDER BY model")

    def clear(self, older_than_days: float | None = None, model: str | None = None) -> int | None:
        """Delete results, all or those that match; how many went, None if unknown. Converted weights stay."""
        where, values = ["1"], []
        if older_than_days is not None:
            where.append("created < ?")
            values.append(time.time() - older_than_days * 86400)
        if model is not None:
            where.append("model = ?")
            values.append(model)
        chosen, count = f"FROM results WHERE {' AND '.join(where)}", None
        try:
            [(count,)] = self._run(f"SELECT COUNT(*) {chosen}", values)
            self._run(f"DELETE {chosen}", values)
            self._run("VACUUM")
        except CacheError as error:
            # On a full disk SQLite can neither open the file nor delete from it; deleting the file takes no room.
            if values or _primary(error.__cause__) not in NO_ROOM:
                raise
            self._delete_files()
        return count

    def copy_to(self, folder: Path) -> None:
        """Write all results into another folder, as they are now."""
        with self._lock, sqlite3.connect(Path(folder) / self.path.name) as target:
            self._open().backup(target)
        target.close()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _delete_files(self) -> None:
        self.close()
        try:
            # SQLite throws away a log that it finds without its file, so a kill in between does no harm.
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise self._explained(error) from error

    def _sound(self, rows: list[tuple[str, int, str]]) -> dict[str, Any]:
        sound = {key: value for key, checksum, value in rows if zlib.crc32(_bytes(value)) == checksum}
        if len(sound) < len(rows):
            _report(f"{len(rows) - len(sound)} damaged results in {self.path} are made again")
        return {key: json.loads(value) for key, value in sound.items()}

    def _run(self, statement: str, values: Sequence = (), many: bool = False) -> list[tuple]:
        try:
            return self._execute(statement, values, many)
        except sqlite3.DatabaseError as error:
            if _primary(error) not in DAMAGED:
                raise self._explained(error) from error
            self._set_aside()
        return self._execute(statement, values, many)

    def _execute(self, statement: str, values: Sequence, many: bool) -> list[tuple]:
        with self._lock, self._open() as connection:
            execute = connection.executemany if many else connection.execute
            return execute(statement, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._explained(error) from error
            connection = sqlite3.connect(self.path, timeout=WAIT, check_same_thread=False)
            # A damaged byte may be no UTF-8; it must reach the checksum, which tells it apart.
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            _use_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(SCHEMA)
            self._connection = connection
        return self._connection

    def _set_aside(self) -> None:
        self.close()
        aside = self.path.with_name(f"results.damaged-{time.time_ns()}.sqlite")
        self.path.rename(aside)
        for leftover in ("-wal", "-shm"):
            self.path.with_name(self.path.name + leftover).unlink(missing_ok=True)
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


def _use_wal(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode. Where two processes do so at once, SQLite says "locked" to one of them without waiting."""
    given_up = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > given_up:
                raise
            time.sleep(0.02)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _packed(value: Any) -> tuple[int, str]:
    text = json.dumps(value, separators=(",", ":"))
    return zlib.crc32(text.encode("ascii")), text


def _report(message: str) -> None:
    print(f"course_lib: {message}", file=sys.stderr, flush=True)


@cache
def _cache_at(folder: Path) -> ResultCache:
    return ResultCache(folder)


def default_cache() -> ResultCache:
    """The store in the folder that `COURSE_LIB_CACHE` names now; one connection per folder and process."""
    return _cache_at(cache_folder())
