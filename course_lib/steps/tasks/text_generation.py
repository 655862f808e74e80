"""Completions for instructions and for conversations."""

from typing import Any

from course_lib.llms.base import Chat
from course_lib.steps.base import Row
from course_lib.steps.prompts import part_of
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.rows import chat_of, list_of
from course_lib.steps.tasks.templating import filled, parsed


class _Writing(Task):
    """Columns: `generation`, `model_name`, and `finish_reason`: why the model stopped, `length` if it was cut off."""

    @property
    def outputs(self) -> list[str]:
        return ["generation", "finish_reasons" if self.group_generations else "finish_reason", "model_name"]

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        return {"generation": output}


class TextGeneration(_Writing):
    """Answers each `instruction`, a row's `system_prompt` and `input` with it.

    Args:
        system_prompt: what the model is told before the instruction, in rows without a system prompt of their own.
        template: Jinja text for the user's message; its variables are columns of the rows.
        columns: further columns that the template may use without them being asked for in every row.

    Columns: `generation`, `finish_reason` (`length`: it was cut off), `model_name`.
    """

    system_prompt: str | None = None
    template: str = "{{ instruction }}"
    columns: str | list[str] | None = None

    def format_input(self, row: Row) -> Chat:
        values = {name: row[name] for name in self.inputs if name in row}
        if self.template == TextGeneration.template:
            values["instruction"] = chat_of(row, self)[-1]["content"]
        content = filled(self._template, **values)
        system = part_of(row, "system_prompt") or self.system_prompt
        messages = [{"role": "system", "content": system}] if system else []
        return [*messages, {"role": "user", "content": content}]

    def check(self) -> None:
        self._template, self._variables = parsed(self.template)

    @property
    def inputs(self) -> list[str]:
        named = [self.columns] if isinstance(self.columns, str) else self.columns or []
        return [*named, *(name for name in self._variables if name not in named)]


class ChatGeneration(_Writing):
    """Answers the last message of a conversation in `messages`. Columns: as those of `TextGeneration`."""

    inputs = ["messages"]

    def format_input(self, row: Row) -> Chat:
        return list_of(row, "messages", self)

    def sample(self) -> Row:
        return {"messages": [{"role": "user", "content": "<MESSAGE>"}]}
