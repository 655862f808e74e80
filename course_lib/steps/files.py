"""Reading files of rows. A reader gives all rows of a file, or at most `limit`."""

import codecs
import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

from course_lib.errors import InputError
from course_lib.steps.base import Row


def read_file(path: Path, limit: int | None = None):
    """At most `limit` rows of a file, or of all files in a folder: something with a length that yields dicts.

    Raises:
        InputError: unknown ending, missing or empty file, or something in it that is no row.
    """
    if path.is_dir():
        return list(islice(chain.from_iterable(map(read_file, files_in(path))), limit))
    if ending(path) not in READERS:
        raise InputError(
            f"{path} ends in {path.suffix or 'nothing'}; allowed: {', '.join(READERS)}, also with .gz."
        )
    if not path.is_file() or not path.stat().st_size:
        raise InputError(
            f"{path} is {'empty' if path.exists() else 'missing'}. Give a file with one instruction per row."
        )
    with reading(path):
        rows = READERS[ending(path)](path, limit)
    if not len(rows):
        raise InputError(f'{path} holds no rows. Write at least one, in .jsonl as {{"instruction": "…"}}.')
    return rows


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a file that cannot be read makes Python raise into an `InputError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def files_in(folder: Path) -> list[Path]:
    """The files in a folder that can be read, by name.

    Raises:
        InputError: there is none.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and ending(file) in READERS)
    if not files:
        raise InputError(
            f"{folder} is not a saved dataset, and holds no file that can be read: {', '.join(READERS)}."
        )
    return files


def ending(path: Path) -> str:
    """The ending of a file's name, that before `.gz` where there is one."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text in UTF-8, or in UTF-16 that begins with its mark; gzip is unpacked."""
    unpacked = gzip.open if path.suffix.lower() == ".gz" else open
    with unpacked(path, "rb") as file:
        utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if utf_16 else "utf-8-sig"
    with unpacked(path, "rt", encoding=encoding, errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.isascii() and any("\udc80" <= letter <= "\udcff" for letter in line):
                raise InputError(f"{path} is not UTF-8 in line {number}: {line[:60]!a}. Save it as UTF-8.")
            yield number, line


def read_jsonl(path: Path, limit: int | None = None) -> list[Row]:
    """One dict for each line that is not blank, or those of an array."""
    return list(islice(stream_jsonl(path), limit))


def stream_jsonl(path: Path) -> Iterator[Row]:
    """The rows that `read_jsonl` gives, one at a time; only an array is read at once."""
    lines = ((f"line {number}", line) for number, line in text_lines(path) if line.strip())
    start = next(lines, ("", ""))
    if start[1].lstrip().startswith("["):
        array = _value(path, "which begins with [,", "".join([start[1], *(line for _, line in lines)]))
        values = ((f"row {number}", value) for number, value in enumerate(array, 1))
    else:
        values = ((place, _value(path, place, line)) for place, line in chain([start], lines) if line)
    for place, row in values:
        if not isinstance(row, dict):
            allowed = 'a JSON object such as {"instruction": "…"}'
            raise InputError(f"{path}, {place} is {repr(row)[:60]}. Allowed: {allowed}.")
        yield row


def _value(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        advice = "One JSON object per line, or one array of objects."
        raise InputError(f"{path}, {place} is not JSON ({error}): {text[:60]!r}. {advice}") from error


def read_text(path: Path, limit: int | None = None) -> list[Row]:
    """An instruction for each line that is not blank."""
    lines = (line.strip() for _, line in text_lines(path) if line.strip())
    return [{"instruction": line} for line in islice(lines, limit)]


def read_csv(path: Path, limit: int | None = None):
    """A table whose first line names the columns, between commas, semicolons, tabs or bars."""
    import pandas
    from datasets import Dataset

    text = "".join(line for _, line in text_lines(path))
    header = text.lstrip().partition("\n")[0]
    # Only an empty cell is nothing: "None" and "NA" are words. A cell too many is an error, not an index.
    options = {"index_col": False, "keep_default_na": False, "na_values": [""], "low_memory": False}
    try:
        with warnings.catch_warnings(action="error", category=pandas.errors.ParserWarning):
            table = pandas.read_csv(
                StringIO(text), sep=max(",;\t|", key=header.count), nrows=limit, **options
            )
        return Dataset.from_pandas(table, preserve_index=False)
    except (ValueError, TypeError, OverflowError, pandas.errors.ParserWarning) as error:
        raise InputError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from error


class ParquetRows:
    """The first rows of a Parquet file, of which a batch is in memory at a time."""

    def __init__(self, path: Path, limit: int | None = None):
        self.path = path
        with _parquet(path) as file:
            rows = file.metadata.num_rows
            self.column_names = file.schema_arrow.names
        self.rows = rows if limit is None else min(rows, limit)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Row]:
        with _parquet(self.path) as file:
            batches = file.iter_batches(batch_size=100)
            yield from islice((row for batch in batches for row in batch.to_pylist()), self.rows)


def read_arrow(path: Path, limit: int | None = None):
    """A table that `datasets` or pyarrow wrote, as a file or as a stream."""
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    try:
        with pa.OSFile(str(path)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            table = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).read_all()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Arrow: {' '.join(str(error).split())}") from error
    return Dataset(InMemoryTable(table.slice(0, limit)))


@contextmanager
def _parquet(path: Path):
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error


READERS: dict[str, Callable[..., Any]] = {
    ".jsonl": read_jsonl,
    ".json": read_jsonl,
    ".csv": read_csv,
    ".parquet": ParquetRows,
    ".tsv": read_csv,
    ".arrow": read_arrow,
    ".txt": read_text,
}
