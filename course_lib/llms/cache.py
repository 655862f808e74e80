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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.errors import CacheError
from course_lib.paths import cache_folder

TABLE = """CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, created REAL NOT NULL, checksum INTEGER NOT NULL, value TEXT NOT NULL
) WITHOUT ROWID"""
WAIT = 60  # seconds for another process to finish writing
# SQLite calls it a plain error when the table is not the one that our statements ask for.
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def result_key(*parts: Any) -> str:
    """The hex sha256 of JSON-able `parts`: equal parts give equal keys on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class ResultCache:
    """A mapping from key to JSON-able value in `folder/results.sqlite`, opened on first use.

    Raises `CacheError` when the folder cannot be written or the disk is full. A damaged entry is reported on standard
    error and treated as absent; a file that is no database is set aside under another name and a new one begun.
    """

    def __init__(self, folder: Path | str | None = None):
        self.path = Path(folder or cache_folder()) / "results.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lock = threading.RLock()

    def get_many(self, keys: Sequence[str], fits: Callable = lambda value: True) -> dict[str, Any]:
        """The values of those `keys` that are stored and sound, and for which `fits(value)` holds."""
        among = "key IN (SELECT value FROM json_each(?))"
        rows = self._run(f"SELECT key, checksum, value FROM results WHERE {among}", [json.dumps([*keys])])
        sound = {key: json.loads(text) for key, checksum, text in rows if checksum == _checksum(key, text)}
        values = {key: value for key, value in sound.items() if fits(value)}
        if len(values) < len(rows):
            _report(f"{len(rows) - len(values)} damaged results in {self.path} are made again")
        return values

    def put_many(self, results: Mapping[str, Any], model: str) -> None:
        """Store all `results` of `model`, or none of them."""
        now = time.time()
        packed = {key: json.dumps(value, separators=(",", ":")) for key, value in results.items()}
        rows = [(key, model, now, _checksum(key, text), text) for key, text in packed.items()]
        self._run("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows, many=True)

    def summary(self) -> list[tuple[str, int, int]]:
        """`(model, results, bytes of text)` for each model."""
        return self._run(
            "SELECT model, COUNT(*), SUM(LENGTH(value)) FROM results GROUP BY model ORDER BY model"
        )

    def clear(self) -> int | None:
        """Delete all results, and damaged files; how many results, None if unknown."""
        count, files = None, []
        try:
            [(count,)] = self._run("SELECT COUNT(*) FROM results")
            self._run("DELETE FROM results")
            self._run("VACUUM")
        except CacheError as error:
            # On a full disk SQLite can neither open the file nor delete from it; deleting the file takes no room.
            if _primary_code(error.__cause__) not in NO_ROOM:
                raise
            self.close()
            files = self._files()
        try:
            for file in [*files, *self.damaged_files()]:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise self._explained(error) from error
        return count

    def copy_to(self, folder: Path) -> None:
        """Write all results into another folder, as they are now."""
        self.summary()  # sets a damaged file aside
        with self._lock, closing(sqlite3.connect(Path(folder) / self.path.name)) as target:
            self._open().backup(target)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def damaged_files(self) -> list[Path]:
        """The files that were set aside."""
        return sorted(self.path.parent.glob("results.damaged-*"))

    def _files(self) -> list[Path]:
        return list(self.path.parent.glob(f"{self.path.name}*"))  # those of the write-ahead log, too

    def _run(self, statement: str, values: Sequence = (), many: bool = False) -> list[tuple]:
        with self._lock:
            try:
                try:
                    return self._execute(statement, values, many)
                except sqlite3.Error as error:
                    if _primary_code(error) not in DAMAGED:
                        raise
                self._set_aside()
                return self._execute(statement, values, many)
            except (sqlite3.Error, OSError) as error:
                raise self._explained(error) from error

    def _execute(self, statement: str, values: Sequence, many: bool) -> list[tuple]:
        with self._open() as connection:
            execute = connection.executemany if many else connection.execute
            return list(execute(statement, values))

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=WAIT, check_same_thread=False)
            self._inode = self.path.stat().st_ino
            # A damaged byte may be no UTF-8; it must reach the checksum, which tells it apart.
            self._connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            try:
                with suppress(sqlite3.OperationalError):  # another process is about to do the same
                    self._connection.execute("PRAGMA journal_mode=WAL")
                for statement in ("PRAGMA synchronous=NORMAL", TABLE):
                    self._connection.execute(statement)
            except BaseException:
                self.close()
                raise
        return self._connection

    def _set_aside(self) -> None:
        self.close()
        if self.path.exists() and self.path.stat().st_ino != self._inode:
            return  # another process was first, and has begun a new file
        aside = f"results.damaged-{time.time_ns()}.sqlite"
        for file in self._files():
            file.rename(file.with_name(file.name.replace(self.path.name, aside)))
        _report(f"{self.path} was damaged; it is kept as {aside} and its results are made again")

    def _explained(self, error: Exception) -> CacheError:
        return CacheError(
            f"The results in {self.path} cannot be read or written ({error}). What was stored before is safe. "
            "Free some space (`python -m course_lib cache --clear` deletes all results) or mend the permissions, or "
            "set COURSE_LIB_CACHE to another folder, and run again."
        )


def _primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html), 0 if the error is none of SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _checksum(key: str, value: Any) -> int:
    return zlib.crc32(f"{key} {value}".encode("utf-8", "surrogatepass"))


def _report(message: str) -> None:
    print(f"course_lib: {message}", file=sys.stderr, flush=True)


_cache_at = cache(ResultCache)


def default_cache() -> ResultCache:
    """The store in the folder that `COURSE_LIB_CACHE` names now; one connection per folder and process."""
    return _cache_at(cache_folder())
