"""Steps that rearrange columns."""

from itertools import zip_longest

from course_lib.errors import GraphError
from course_lib.steps.base import Row, Step, StepInput, StepOutput


class GroupColumns(Step):
    """Puts the columns of several branches side by side: one row with lists instead of a row from each branch.

    Args:
        columns: columns to group.
        output_columns: their names afterwards; by default `grouped_` and the name.

    Other columns are kept, where branches differ those of the first; `distilabel_metadata` is merged, and each
    branch's `finish_reason` stands in the list `finish_reasons`.
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

    def columns_after(self, before: set[str]) -> set[str]:
        after = super().columns_after(before - set(self.columns))
        return after - {"finish_reason"} | {"finish_reasons"} if "finish_reason" in after else after

    def process(self, *inputs: StepInput) -> StepOutput:
        yield [self._grouped(rows) for rows in zip_longest(*inputs, fillvalue={})]

    def _grouped(self, rows: tuple[Row, ...]) -> Row:
        merged = {key: value for row in reversed(rows) for key, value in row.items()}
        kept = {key: value for key, value in merged.items() if key not in self.columns}
        metadata = [row["distilabel_metadata"] for row in rows if row.get("distilabel_metadata")]
        if metadata:
            kept["distilabel_metadata"] = {key: value for one in metadata for key, value in one.items()}
        lists = {
            new: [row.get(old) for row in rows] for old, new in zip(self.columns, self.outputs, strict=True)
        }
        if "finish_reason" in kept:
            del kept["finish_reason"]
            lists["finish_reasons"] = [row.get("finish_reason") for row in rows]
        return {**kept, **lists}


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
