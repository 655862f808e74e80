"""The rows of a run on disk: streams of numbered rows between steps, and the datasets at the end.

Memory does not grow with the number of rows, since a step holds a batch of them and the rest lies in files.
"""

import hashlib
import heapq
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from course_lib.errors import GraphError, InputError, writing
from course_lib.steps.base import Row, Step

Numbered = tuple[int, Row]


class Stream:
    """The rows of a step in a file, shard after shard. `lineage` tells streams whose row numbers mean the same."""

    def __init__(self, folder: Path, lineage: tuple[str, ...]):
        self.folder, self.lineage, self.rows = folder, lineage, 0
        with storing(folder):
            folder.mkdir()
            (folder / "rows.pickle").touch()

    def write(self, shard: list[Numbered]) -> None:
        with storing(self.folder), (self.folder / "rows.pickle").open("ab") as file:
            pickle.dump(shard, file, protocol=5)
        self.rows += len(shard)

    def shards(self) -> Iterator[list[Numbered]]:
        with (self.folder / "rows.pickle").open("rb") as file:
            while file.peek(1):
                yield pickle.load(file)

    def __iter__(self) -> Iterator[Numbered]:
        return (numbered for shard in self.shards() for numbered in shard)


def storing(folder: Path | str):
    return writing(
        "The rows of this run", folder, "Free some space there, or set TMPDIR to a folder on another disk"
    )


def batches(step: Step, parents: list[Stream]) -> Iterator[tuple[list[int], list[list[Row]]]]:
    """Row numbers, and for each parent the rows that have them: those that all parents still have, in order."""
    if len({parent.lineage for parent in parents}) > 1:
        lineages = "; ".join(", ".join(parent.lineage) or "unchanged" for parent in parents)
        raise GraphError(
            f"Step {step.name!r} joins branches whose rows no longer match: a step before it changed how many there "
            f"are ({lineages}). Move that step after the join."
        )
    # Numbers rise in each stream, and the merge keeps the order of the parents.
    merged = heapq.merge(*parents, key=itemgetter(0))
    groups = ((number, [row for _, row in group]) for number, group in groupby(merged, key=itemgetter(0)))
    matched = (group for group in groups if len(group[1]) == len(parents))
    while batch := list(islice(matched, step.input_batch_size)):
        numbers, rows = zip(*batch, strict=True)
        yield list(numbers), [list(column) for column in zip(*rows, strict=True)]


def dataset_from_shards(shards: Iterable[list[dict[str, Any]]], folder: Path, columns: Sequence[str] = ()):
    """A memory-mapped `datasets.Dataset` from lists of rows, whose Arrow files are written to `folder`.

    The fingerprint is that of the content, so that equal rows are saved as equal bytes. `columns` name those of
    a dataset without rows.
    """
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import MemoryMappedTable

    tables, digest = [], hashlib.sha256()
    for number, rows in enumerate(filter(None, shards)):
        table = _table(rows)
        file = folder / f"{number:06d}.arrow"
        with pa.ipc.new_stream(str(file), table.schema) as writer:
            writer.write_table(table)
        digest.update(file.read_bytes())
        tables.append(MemoryMappedTable.from_file(str(file)).table)
    with _one_kind("A column"):
        empty = pa.table({name: pa.nulls(0) for name in columns})
        table = pa.concat_tables(tables, promote_options="permissive") if tables else empty
    return Dataset(table, fingerprint=digest.hexdigest()[:16])


def _table(rows: list[dict[str, Any]]):
    import pyarrow as pa

    arrays = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        with _one_kind(f"The column {name!r}"):
            arrays[name] = pa.array([row.get(name) for row in rows])
    return pa.table(arrays)


@contextmanager
def _one_kind(column: str):
    """Turn what Arrow raises about the values of `column` into an `InputError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{column} holds values of several kinds, or of one that a dataset cannot hold ({error}). "
            "Give all rows the same kind."
        ) from error
