"""The rows of a run on disk: streams of numbered rows between steps, and the datasets at the end.

Memory does not grow with the number of rows, since a step holds a batch of them and the rest lies in files.
"""

import hashlib
import heapq
import pickle
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

from course_lib.errors import GraphError, InputError, writing
from course_lib.steps.base import Row, Step

Numbered = tuple[int, Row]


class Stream:
    """The rows of a step in a file. `lineage` tells streams whose row numbers mean the same."""

    def __init__(self, folder: str, name: str, lineage: tuple[str, ...] = ()):
        self.file, self.lineage, self.rows = Path(folder, f"{name}.rows"), lineage, 0
        with storing(self.file):
            self.file.touch()

    def write(self, shard: list[Numbered]) -> None:
        with storing(self.file), self.file.open("ab") as file:
            pickle.dump(shard, file, protocol=5)
        self.rows += len(shard)

    def shards(self) -> Iterator[list[Numbered]]:
        with self.file.open("rb") as file:
            while file.peek(1):
                yield pickle.load(file)

    def __iter__(self) -> Iterator[Numbered]:
        return (numbered for shard in self.shards() for numbered in shard)

    def schema(self):
        """The Arrow schema of all rows; an `InputError` where no dataset could hold them."""
        import pyarrow as pa

        schema = pa.schema([])
        for rows in self.shards():
            for name in dict.fromkeys(key for _, row in rows for key in row):
                try:
                    kind = pa.array([row.get(name) for _, row in rows]).type
                    schema = pa.unify_schemas([schema, pa.schema({name: kind})], promote_options="permissive")
                except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                    raise InputError(
                        f"The column {name!r} holds values of several kinds, a number too large, or text that "
                        f"is no Unicode ({error}). Mend these values, or leave the column out."
                    ) from error
        return schema

    def dataset(self, columns: Iterable[str] = ()):
        """A memory-mapped `datasets.Dataset` of the rows; `columns` name those of one without rows.

        The fingerprint is that of the content, so that equal rows are saved as equal bytes.
        """
        import pyarrow as pa
        from datasets import Dataset
        from datasets.table import MemoryMappedTable

        schema = self.schema() if self.rows else pa.schema(dict.fromkeys(sorted(columns), pa.null()))
        file = self.file.with_suffix(".arrow")
        with storing(file), pa.ipc.new_stream(str(file), schema) as writer:
            for rows in self.shards():
                writer.write_table(pa.Table.from_pylist([row for _, row in rows], schema=schema))
        with file.open("rb") as written:
            fingerprint = hashlib.file_digest(written, "sha256").hexdigest()[:16]
        return Dataset(MemoryMappedTable.from_file(str(file)), fingerprint=fingerprint)


def storing(file: Path | str):
    return writing(
        "The rows of this run", file, "Free some space there, or set TMPDIR to a folder on another disk"
    )


def batches(step: Step, parents: list[Stream]) -> Iterator[tuple[list[int], list[list[Row]]]]:
    """Numbers, and for each parent the rows with them: those that all parents still have, in order."""
    if len({parent.lineage for parent in parents}) > 1:
        lineages = "; ".join(", ".join(parent.lineage) or "unchanged" for parent in parents)
        raise GraphError(
            f"Step {step.name!r} joins branches whose rows no longer match: a step before it changed "
            f"how many there are ({lineages}). Move that step after the join."
        )
    # Numbers rise in each stream, and the merge keeps the order of the parents.
    merged = heapq.merge(*parents, key=itemgetter(0))
    groups = ((number, [row for _, row in group]) for number, group in groupby(merged, key=itemgetter(0)))
    matched = (group for group in groups if len(group[1]) == len(parents))
    while batch := list(islice(matched, step.input_batch_size)):
        numbers, rows = zip(*batch, strict=True)
        yield list(numbers), [list(column) for column in zip(*rows, strict=True)]
