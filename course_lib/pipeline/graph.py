"""What is connected to what, and whether it fits: checked before any model loads."""

import inspect
import re
from collections import Counter
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter

from course_lib.errors import GraphError
from course_lib.steps.base import GeneratorStep, Step, required_columns, snake_case


class Graph:
    """Steps by name, and for each the names of the steps that send it rows."""

    def __init__(self):
        self.steps: dict[str, Step] = {}
        self.parents: dict[str, list[str]] = {}
        self.columns: dict[str, set[str]] = {}
        self._numbers: Counter = Counter()

    def add(self, step: Step) -> None:
        if step.name is None:
            step.name = self._next_name(snake_case(type(step).__name__))
        if not re.fullmatch(r"\w[\w.-]*", step.name) or step.name == "dropped":
            raise GraphError(
                f"A step cannot be named {step.name!r}. Allowed: letters, digits, '_', '-' and '.', but not 'dropped', "
                "which names the dataset of the rows that left."
            )
        if step.name in self.steps:
            raise GraphError(f"There are two steps named {step.name!r}. Give one of them another name=….")
        self.steps[step.name] = step
        self.parents[step.name] = []

    def remove(self, step: Step) -> None:
        """Take `step` and its connections away."""
        del self.steps[step.name], self.parents[step.name]
        for parents in self.parents.values():
            if step.name in parents:
                parents.remove(step.name)

    def connect(self, source: Step, target: Step) -> None:
        for step in (source, target):
            if self.steps.get(step.name) is not step:
                raise GraphError(
                    f"{step} is not in this pipeline. Make it inside the same `with Pipeline()` block."
                )
        if isinstance(target, GeneratorStep):
            raise GraphError(
                f"{target} makes rows of its own and takes none from {source}. Turn the arrow round."
            )
        if source.name in self.parents[target.name]:
            raise GraphError(f"{source} and {target} are connected twice. Remove one of the connections.")
        self.parents[target.name].append(source.name)

    def order(self) -> list[Step]:
        """The steps, each after those that it depends on."""
        try:
            names = list(TopologicalSorter(self.parents).static_order())
        except CycleError as error:
            raise GraphError(
                f"The steps go in a circle: {' → '.join(error.args[1])}. Remove one of the connections."
            ) from error
        return [self.steps[name] for name in names]

    def leaves(self) -> list[Step]:
        """The steps that send rows to no other step."""
        sources = {name for parents in self.parents.values() for name in parents}
        return [step for name, step in self.steps.items() if name not in sources]

    def check(self) -> None:
        """Raise `GraphError` unless every step is connected and finds its columns."""
        if not self.steps:
            raise GraphError("The pipeline has no steps. Make them inside `with Pipeline() as pipeline:`.")
        order = self.order()
        for step in order:
            self._check_connected(step)
            step.check()
        after = self.columns = {}
        for step in order:
            before = [after[name] for name in self.parents[step.name]]
            for columns in before:
                self._check_columns(step, columns)
            after[step.name] = step.columns_after(set().union(*before))

    def _check_connected(self, step: Step) -> None:
        parents = self.parents[step.name]
        generates = isinstance(step, GeneratorStep)
        if not parents and not generates:
            raise GraphError(
                f"Step {step.name!r} gets no rows. Connect a step to it (`load >> step`), or give pipeline.run(dataset=…)."
            )
        if generates and len(self.steps) > 1 and step in self.leaves():
            raise GraphError(f"Step {step.name!r} is connected to nothing. Connect it, or leave it out.")
        if len(parents) > 1 and not takes_many(step):
            raise GraphError(
                f"Step {step.name!r} takes rows from one step, but {', '.join(parents)} send it some. "
                "Put GroupColumns between them."
            )

    def _check_columns(self, step: Step, columns: set[str]) -> None:
        names = set(step.inputs)
        unknown = set(step.input_mappings) - names
        if unknown:
            raise GraphError(
                f"Step {step.name!r} has no input {', '.join(sorted(unknown))} to map. Its inputs: {', '.join(sorted(names))}."
            )
        needed = [step.input_mappings.get(name, name) for name in required_columns(step.inputs)]
        for column in [*needed, *step.input_mappings.values()]:
            if column not in columns:
                raise GraphError(missing_column(step, column, sorted(columns)))

    def _next_name(self, base: str) -> str:
        while f"{base}_{self._numbers[base]}" in self.steps:
            self._numbers[base] += 1
        return f"{base}_{self._numbers[base]}"


def missing_column(step: Step, column: str, there: list[str]) -> str:
    close = get_close_matches(column, there, n=1, cutoff=0.5) or there[:1]
    hint = f" If one of them is meant, say so: input_mappings={{{column!r}: {close[0]!r}}}." if close else ""
    return f"Step {step.name!r} needs the column {column!r}. The rows before it have: {', '.join(there) or 'none'}.{hint}"


def takes_many(step: Step) -> bool:
    kinds = [p.kind for p in inspect.signature(step.process).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds
