"""Steps that rearrange columns."""

from collections.abc import Iterable
from itertools import zip_longest

from course_lib.errors import GraphError
from course_lib.steps.base import Row, Step, StepInput, StepOutput


class GroupColumns(Step):
    """Puts the columns of several branches side by side: a row with lists for a row from each branch.

    Args:
        columns: columns to group.
        output_columns: their names afterwards; by default `grouped_` and the name.

    Other columns are kept, where branches differ those of the first; `distilabel_metadata` is merged. Where
    rows have a `finish_reason`, the list `finish_reasons` says for each branch how its text ended.
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
        metadata = [row["distilabel_metadata"] for row in rows if row.get("distilabel_metadata")]
        if metadata:
            kept["distilabel_metadata"] = {key: value for entry in metadata for key, value in entry.items()}
        return {**kept, **{new: [row.get(old) for row in rows] for old, new in names.items()}}


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
