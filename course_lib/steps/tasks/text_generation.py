"""Completions for instructions and for conversations."""

from typing import Any

from course_lib.llms.base import Chat
from course_lib.steps.base import Row
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.rows import text_of
from course_lib.steps.tasks.templating import filled, parsed


class TextGeneration(Task):
    """Answers each `instruction`.

    Args:
        system_prompt: what the model is told before the instruction.
        template: Jinja text for the user's message; its variables are columns of the rows.
        columns: further columns that the template may use without them being asked for in every row.

    Columns: `generation`, `model_name`.
    """

    system_prompt: str | None = None
    template: str = "{{ instruction }}"
    columns: str | list[str] | None = None

    outputs = ["generation", "model_name"]

    def check(self) -> None:
        self._template, self._variables = parsed(self.template)

    @property
    def inputs(self) -> list[str]:
        named = [self.columns] if isinstance(self.columns, str) else self.columns or []
        return [*named, *(name for name in self._variables if name not in named)]

    def format_input(self, row: Row) -> Chat:
        values = {name: row.get(name) for name in self.inputs if name in row}
        if self.template == TextGeneration.template:
            text_of(row, "instruction", self)
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": filled(self._template, **values)}]

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        return {"generation": output}


class ChatGeneration(Task):
    """Answers the last message of a conversation in `messages`. Columns: `generation`, `model_name`."""

    inputs = ["messages"]
    outputs = ["generation", "model_name"]

    def format_input(self, row: Row) -> Chat:
        return row["messages"]

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        return {"generation": output}

    def sample(self) -> Row:
        return {"messages": [{"role": "user", "content": "<MESSAGE>"}]}
