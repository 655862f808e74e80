"""Steps: the pieces of a pipeline. A step maps rows (dicts) to rows; a generator step makes the first ones.

To write one, subclass `Step`, declare settings as annotated class attributes, name columns and yield rows:

    class Shout(Step):
        mark: str = "!"
        inputs = ["text"]
        outputs = ["loud"]

        def process(self, rows):
            yield [{**row, "loud": row["text"].upper() + self.mark} for row in rows]

A row with a `drop_reason` leaves the pipeline there and is counted; it is never lost.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, fields
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

from course_lib.declared import Declared
from course_lib.errors import GraphError, InputError
from course_lib.llms.base import sampling_arguments

Row = dict[str, Any]
StepInput = list[Row]
StepOutput = Iterator[list[Row]]
StepColumns = list[str] | dict[str, bool]

DROP_REASON = "drop_reason"
HIDDEN = "\0"  # before the name of a column that a mapped input covers while the step runs
open_pipelines: list[Any] = []  # the pipelines whose `with` blocks are open, innermost last


class Step(Declared):
    """A step that maps rows to rows.

    Args:
        name: unique in its pipeline; by default the class name and a number (`text_generation_0`).
        pipeline: the pipeline it belongs to; by default the one whose `with` block is open.
        input_mappings: `{input of the step: column of the rows}`.
        output_mappings: `{output of the step: column of the rows}`.
        input_batch_size: rows given to `process` at once.
    """

    name: str | None = None
    pipeline: Any = None
    input_mappings: dict[str, str] = field(default_factory=dict)
    output_mappings: dict[str, str] = field(default_factory=dict)
    input_batch_size: int = 500

    inputs: ClassVar[StepColumns] = []
    outputs: ClassVar[StepColumns] = []

    def __post_init__(self):
        if self.pipeline is None and open_pipelines:
            self.pipeline = open_pipelines[-1]
        if self.pipeline is not None:
            self.pipeline.add(self)
        elif self.name is None:
            self.name = f"{snake_case(type(self).__name__)}_0"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def process(self, *inputs: StepInput) -> StepOutput:
        """Yield lists of rows for the lists of rows that came in, one list per step before this one."""
        raise TypeError(f"{type(self).__name__} must define process")

    def load(self) -> None:
        """Called once before the first `process`."""

    def unload(self) -> None:
        """Called once after the last `process`."""

    def check(self) -> None:
        """Raise now what would stop a run later. Called before any step is loaded."""

    @property
    def llms(self) -> list[Any]:
        """The language models that this step asks."""
        return []

    def connect(self, *others: "Step") -> None:
        """Send this step's rows to each of `others`."""
        if self.pipeline is None:
            raise GraphError(
                f"{self} is in no pipeline. Make it inside `with Pipeline() as pipeline:` to connect it."
            )
        for other in others:
            self.pipeline.connect(self, other)

    def __rshift__(self, other: "Step | list[Step]"):
        self.connect(*(other if isinstance(other, list) else [other]))
        return other

    def __rrshift__(self, others: "list[Step]") -> "Step":
        for other in others:
            other.connect(self)
        return self

    def set_parameters(self, given: dict[str, Any]) -> None:
        """Set attributes at run time; `llm` takes `{"generation_kwargs": {…}}`."""
        allowed = [f.name for f in fields(self) if f.name not in ("name", "pipeline")]
        for key, value in given.items():
            if key not in allowed:
                raise InputError(
                    f"Step {self.name!r} has no parameter {key!r}. Allowed: {', '.join(allowed)}."
                )
            if key == "llm" and isinstance(value, dict):
                self._set_llm(value)
            else:
                setattr(self, key, value)

    def _set_llm(self, given: dict[str, Any]) -> None:
        for key, value in given.items():
            if not hasattr(self.llm, key):
                raise InputError(
                    f"The LLM of step {self.name!r} has no parameter {key!r}. Try generation_kwargs."
                )
            current = getattr(self.llm, key)
            merged = {**current, **value} if isinstance(current, dict) else value
            if key == "generation_kwargs":
                sampling_arguments(merged)
            setattr(self.llm, key, merged)

    def columns_after(self, before: set[str]) -> set[str]:
        """The columns of the rows after this step, given those before it."""
        return before | {self.output_mappings.get(name, name) for name in self.outputs}

    def apply(self, *inputs: StepInput) -> Iterator[list[Row]]:
        """`process`, with the mappings of columns around it."""
        mapped = [[self._mapped_in(row) for row in rows] for rows in inputs]
        for rows in self.process(*mapped):
            yield [self._mapped_out(row) for row in rows]

    def _mapped_in(self, row: Row) -> Row:
        if not self.input_mappings:
            return row
        kept = {
            f"{HIDDEN}{key}" if key in self.input_mappings else key: value
            for key, value in row.items()
            if key not in self.input_mappings.values()
        }
        return {**kept, **{name: row[column] for name, column in self.input_mappings.items()}}

    def _mapped_out(self, row: Row) -> Row:
        row = dict(row)
        renamed = {column: row.pop(name) for name, column in self.output_mappings.items() if name in row}
        restored = {column: row.pop(name) for name, column in self.input_mappings.items() if name in row}
        hidden = {key.removeprefix(HIDDEN): row.pop(key) for key in list(row) if key.startswith(HIDDEN)}
        return {**row, **hidden, **restored, **renamed}


class GlobalStep(Step):
    """A step whose `process` gets all rows at once, and so needs them all in memory."""

    input_batch_size: int = sys.maxsize


class GeneratorStep(Step):
    """A step without rows before it: `process(offset)` yields `(rows, is_last)`."""

    batch_size: int = 500

    def process(self, offset: int = 0) -> Iterator[tuple[list[Row], bool]]:
        raise TypeError(f"{type(self).__name__} must define process")

    def count(self) -> int | None:
        """How many rows will come, if known."""
        return None

    def generate_rows(self) -> Iterator[list[Row]]:
        """The rows of `process`, with output mappings, up to the one that says it is the last."""
        for rows, is_last in self.process():
            yield [self._mapped_out(row) for row in rows]
            if is_last:
                return


def step(
    inputs: StepColumns | None = None, outputs: StepColumns | None = None, step_type: str = "normal"
) -> Callable[[Callable], type[Step]]:
    """Make a class of step from a function: `@step(inputs=["text"], outputs=["loud"])`.

    Args:
        inputs, outputs: the columns that it reads and adds.
        step_type: "normal"; "global", for all rows at once; or "generator", for a function of `offset`.
    """
    kinds: dict[str, type[Step]] = {"normal": Step, "global": GlobalStep, "generator": GeneratorStep}
    if step_type not in kinds:
        raise InputError(f"step_type={step_type!r}; allowed: {', '.join(kinds)}.")

    def made(function: Callable) -> type[Step]:
        # Steps find by its signature whether `process` takes rows of several steps.
        def process(self, *arguments):
            return function(*arguments)

        own = [Parameter("self", Parameter.POSITIONAL_ONLY), *signature(function).parameters.values()]
        process.__signature__ = Signature([p.replace(kind=_by_place(p)) for p in own])
        names = {"inputs": list(inputs or []), "outputs": list(outputs or []), "process": process}
        about = {"__doc__": function.__doc__, "__module__": function.__module__}
        return type(function.__name__, (kinds[step_type],), {**names, **about})

    return made


def _by_place(parameter: Parameter):
    several = parameter.kind == Parameter.VAR_POSITIONAL
    return Parameter.VAR_POSITIONAL if several else Parameter.POSITIONAL_ONLY


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def required_columns(spec: Iterable[str] | dict[str, bool]) -> list[str]:
    """The columns that must be there: all of a list, those marked True of a dict."""
    return [name for name, required in spec.items() if required] if isinstance(spec, dict) else list(spec)


def dropped(row: Row, reason: str) -> Row:
    """`row`, marked to leave the pipeline for `reason`."""
    return {**row, DROP_REASON: reason}
