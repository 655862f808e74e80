"""Steps that rearrange columns."""

from collections.abc import Iterable
from functools import cached_property
from itertools import chain, zip_longest
from typing import Any

from course_lib.errors import GraphError
from course_lib.steps.base import Row, Step, StepInput, StepOutput


class GroupColumns(Step):
    """Puts the columns of several branches side by side: a row with lists for a row from each branch.

    Args:
        columns: columns to group.
        output_columns: their names afterwards; by default `grouped_` and the name.

    Other columns are kept, where branches differ those of the first. `distilabel_metadata` is merged: what differs
    between branches under one key is a list, in their order. Where rows have a `finish_reason`, the list
    `finish_reasons` says for each branch how its text ended.
    """

    columns: list[str]
    output_columns: list[str] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.output_columns is not None and len(self.output_columns) != len(self.columns):
            raise GraphError(
                f"{self.name}: {len(self.columns)} columns but {len(self.output_columns)} output_columns."
            )

    @property
    def inputs(self) -> list[str]:
        return self.columns

    @property
    def outputs(self) -> list[str]:
        return self.output_columns or [f"grouped_{column}" for column in self.columns]

    def _names(self, before: Iterable[str]) -> dict[str, str]:
        """The columns of the rows that become lists, and the names of these."""
        names = dict(zip(self.columns, self.outputs, strict=True))
        if "finish_reason" in before:
            names["finish_reason"] = "finish_reasons"
        if "finish_reasons" in before and {"generation", "generations"} & set(self.columns):
            names["finish_reasons"] = "finish_reasons"
        return names

    def columns_after(self, before: set[str]) -> set[str]:
        names = self._names(before)
        return super().columns_after(before - set(names)) | set(names.values())

    def process(self, *inputs: StepInput) -> StepOutput:
        yield [self._grouped(rows) for rows in zip_longest(*inputs, fillvalue={})]

    def _grouped(self, rows: tuple[Row, ...]) -> Row:
        merged = {key: value for row in reversed(rows) for key, value in row.items()}
        names = self._names(merged)
        kept = {key: value for key, value in merged.items() if key not in names}
        if metadata := merged_metadata(rows):
            kept["distilabel_metadata"] = metadata
        return {**kept, **{new: [row.get(old) for row in rows] for old, new in names.items()}}


def merged_metadata(rows: Iterable[Row]) -> dict[str, Any]:
    """The `distilabel_metadata` of several rows: what differs under the same key is kept as a list, in their order."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in (row.get("distilabel_metadata") or {}).items():
            values.setdefault(key, []).append(value)
    # A key that the branches have from a step before them says the same in each.
    return {key: each[0] if all(value == each[0] for value in each) else each for key, each in values.items()}


class CombineOutputs(Step):
    """Puts the rows of several branches together, column by column; where two have a column, the later one's stays."""

    def process(self, *inputs: StepInput) -> StepOutput:
        yield [self._combined(rows) for rows in zip_longest(*inputs, fillvalue={})]

    def _combined(self, rows: tuple[Row, ...]) -> Row:
        metadata = merged_metadata(rows)
        combined = {key: value for row in rows for key, value in row.items()}
        return {**combined, **({"distilabel_metadata": metadata} if metadata else {})}


class ExpandColumns(Step):
    """Makes a row of each place in the lists of `columns`, a list of names or a dict to new names."""

    columns: list[str] | dict[str, str]

    @property
    def inputs(self) -> list[str]:
        return list(self.columns)

    @property
    def outputs(self) -> list[str]:
        return list(self.columns.values() if isinstance(self.columns, dict) else self.columns)

    def process(self, rows: StepInput) -> StepOutput:
        yield [expanded for row in rows for expanded in self._expanded(row)]

    def _expanded(self, row: Row) -> list[Row]:
        kept = {key: value for key, value in row.items() if key not in self.columns}
        lists = [
            row[column] if isinstance(row[column], list | tuple) else [row[column]] for column in self.columns
        ]
        return [{**kept, **dict(zip(self.outputs, values, strict=True))} for values in zip_longest(*lists)]


class KeepColumns(Step):
    """Keeps `columns`, in that order, and nothing else."""

    columns: list[str]

    @property
    def inputs(self) -> list[str]:
        return self.columns

    def columns_after(self, before: set[str]) -> set[str]:
        return set(self.columns)

    def process(self, rows: StepInput) -> StepOutput:
        yield [{column: row[column] for column in self.columns} for row in rows]


class MergeColumns(Step):
    """Makes one column of several, a list of their values; those that are lists themselves are continued.

    Args:
        columns: columns that are put together, and are no more afterwards.
        output_column: the name of the list; by default `combined_` and the names.
    """

    columns: list[str]
    output_column: str | None = None

    @property
    def inputs(self) -> list[str]:
        return self.columns

    @property
    def outputs(self) -> list[str]:
        return [self.output_column or f"combined_{'_'.join(self.columns)}"]

    def columns_after(self, before: set[str]) -> set[str]:
        return super().columns_after(before - set(self.columns))

    def process(self, rows: StepInput) -> StepOutput:
        yield [self._merged(row) for row in rows]

    def _merged(self, row: Row) -> Row:
        kept = {key: value for key, value in row.items() if key not in self.columns}
        values = (row[column] for column in self.columns)
        lists = [list(value) if isinstance(value, list | tuple) else [value] for value in values]
        return {**kept, self.outputs[0]: list(chain.from_iterable(lists))}


class TruncateTextColumn(Step):
    """Cuts the text in `column` after `max_length` characters, or tokens of the model named by `tokenizer`."""

    column: str = "text"
    max_length: int = 8192
    tokenizer: str | None = None

    @property
    def inputs(self) -> list[str]:
        return [self.column]

    @property
    def outputs(self) -> list[str]:
        return self.inputs

    @cached_property
    def _tokenizer(self) -> Any:
        from course_lib.llms import TransformersLLM

        return TransformersLLM(self.tokenizer).tokenizer if self.tokenizer else None

    def process(self, rows: StepInput) -> StepOutput:
        yield [{**row, self.column: self._cut(row[self.column])} for row in rows]

    def _cut(self, text: str | None) -> str | None:
        if not text or self._tokenizer is None:
            return text and text[: self.max_length]
        tokens = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(tokens) <= self.max_length else self._tokenizer.decode(tokens[: self.max_length])
