"""What is connected to what, and whether it fits: checked before any model loads."""

import inspect
import re
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import count
from typing import Any

from course_lib.errors import GraphError
from course_lib.steps.base import GeneratorStep, Step, required_columns, snake_case
from course_lib.steps.load import LoadDataFromDicts


class Graph:
    """Steps by name, and for each the names of the steps that send it rows."""

    def __init__(self):
        self.steps: dict[str, Step] = {}
        self.parents: dict[str, list[str]] = {}

    def add(self, step: Step) -> None:
        if step.name is None:
            names = (f"{snake_case(type(step).__name__)}_{number}" for number in count())
            step.name = next(name for name in names if name not in self.steps)
        if not re.fullmatch(r"\w[\w.-]*", step.name) or step.name == "dropped":
            raise GraphError(
                f"A step cannot be named {step.name!r}. Allowed: letters, digits, '_', '-' and '.', but not "
                "'dropped', which names the dataset of the rows that left."
            )
        if step.name in self.steps:
            raise GraphError(f"There are two steps named {step.name!r}. Give one of them another name=….")
        self.steps[step.name] = step
        self.parents[step.name] = []

    def connect(self, source: Step, target: Step) -> None:
        for step in (source, target):
            if self.steps.get(step.name) is not step:
                raise GraphError(
                    f"{step} is not in this pipeline. Make it inside the same `with Pipeline()`."
                )
        if isinstance(target, GeneratorStep):
            raise GraphError(f"{target} makes rows and takes none from {source}. Turn the arrow round.")
        if source.name in self.parents[target.name]:
            raise GraphError(f"{source} and {target} are connected twice. Remove one of the connections.")
        self.parents[target.name].append(source.name)

    def fed(self, rows: Any) -> "Graph":
        """A copy in which the first steps that load no rows of their own get `rows`."""
        copy = Graph()
        copy.steps = dict(self.steps)
        copy.parents = {name: list(parents) for name, parents in self.parents.items()}
        starts = [step for step in self.steps.values() if self._lacks_rows(step)]
        if not starts:
            raise GraphError("run(dataset=…) was given rows, but every first step loads its own. Remove one.")
        source = LoadDataFromDicts(data=rows, pipeline=copy)
        for step in starts:
            copy.connect(source, step)
        return copy

    def _lacks_rows(self, step: Step) -> bool:
        return not self.parents[step.name] and not isinstance(step, GeneratorStep)

    def order(self) -> list[Step]:
        """The steps, each after those that it depends on."""
        try:
            return [self.steps[name] for name in TopologicalSorter(self.parents).static_order()]
        except CycleError as error:
            circle = " → ".join(error.args[1])
            raise GraphError(f"The steps go in a circle: {circle}. Remove one connection.") from error

    def leaves(self) -> list[Step]:
        """The steps that send rows to no other step."""
        sources = {name for parents in self.parents.values() for name in parents}
        return [step for name, step in self.steps.items() if name not in sources]

    def check(self) -> dict[str, set[str]]:
        """The columns of the rows after each step; `GraphError` unless all are connected and find theirs."""
        if not self.steps:
            raise GraphError("The pipeline has no steps. Make them inside `with Pipeline() as pipeline:`.")
        order = self.order()
        for step in order:
            self._check_connected(step)
            step.check()
        after: dict[str, set[str]] = {}
        for step in order:
            before = [after[name] for name in self.parents[step.name]]
            for columns in before:
                _check_columns(step, columns)
            after[step.name] = step.columns_after(set().union(*before))
        return after

    def _check_connected(self, step: Step) -> None:
        parents = self.parents[step.name]
        if self._lacks_rows(step):
            raise GraphError(
                f"Step {step.name!r} gets no rows. Connect one to it (`load >> step`), or run(dataset=…)."
            )
        if not parents and len(self.steps) > 1 and step in self.leaves():
            raise GraphError(f"Step {step.name!r} is connected to nothing. Connect it, or leave it out.")
        arguments = inspect.signature(step.process).parameters.values()
        if len(parents) > 1 and all(argument.kind != argument.VAR_POSITIONAL for argument in arguments):
            raise GraphError(
                f"Step {step.name!r} takes rows from one step, but {', '.join(parents)} send it some. "
                "Put GroupColumns between them."
            )


def _check_columns(step: Step, columns: set[str]) -> None:
    if unknown := sorted(set(step.input_mappings) - set(step.inputs)):
        inputs = ", ".join(sorted(step.inputs))
        raise GraphError(
            f"Step {step.name!r} has no input {', '.join(unknown)} to map. Its inputs: {inputs}."
        )
    needed = [step.input_mappings.get(name, name) for name in required_columns(step.inputs)]
    for column in [*needed, *step.input_mappings.values()]:
        if column not in columns:
            raise GraphError(_missing_column(step, column, sorted(columns)))


def _missing_column(step: Step, column: str, there: list[str]) -> str:
    close = get_close_matches(column, there, n=1, cutoff=0.5) or there[:1]
    hint = f" If one of them is meant, say so: input_mappings={{{column!r}: {close[0]!r}}}." if close else ""
    columns = ", ".join(there) or "none"
    return f"Step {step.name!r} needs the column {column!r}. The rows before it have: {columns}.{hint}"
