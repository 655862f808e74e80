"""Completions for instructions and for conversations."""

from typing import Any

from course_lib.llms.base import Chat
from course_lib.steps.base import Row
from course_lib.steps.prompts import OPTIONAL, TEXTS, part_of
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
    """Answers each `instruction`.

    Args:
        system_prompt: what the model is told before the instruction; a row's own `system_prompt` is told first.
        template: Jinja text for the user's message; its variables are columns of the rows. `instruction` stands
            for the whole question: a row's `input` follows it unless the template places it, and the `messages`
            before it are said before (see `prompts`).
        columns: further columns that the template may use without them being asked for in every row.

    Columns: `generation`, `finish_reason` (`length`: it was cut off), `model_name`.
    """

    system_prompt: str | None = None
    template: str = "{{ instruction }}"
    columns: str | list[str] | None = None

    def format_input(self, row: Row) -> Chat:
        values = {name: part_of(row, name) or "" for name in TEXTS if name in self._variables}
        values |= {name: row[name] for name in self.inputs if name in row and name not in values}
        # What the template places itself is not placed around it once more.
        around = {**row, **{name: None for name in OPTIONAL if name in self._variables}}
        if "instruction" in self._variables:
            *before, question = chat_of(around, self)
            values["instruction"] = question["content"]
        else:
            system = part_of(around, "system_prompt")
            before = [{"role": "system", "content": system}] if system else []
        systems = [message["content"] for message in before if message["role"] == "system"]
        system = "\n\n".join(filter(None, [*systems, self.system_prompt]))
        messages = [{"role": "system", "content": system}] if system else []
        turns = [message for message in before if message["role"] != "system"]
        return [*messages, *turns, {"role": "user", "content": filled(self._template, **values)}]

    def check(self) -> None:
        self._template, self._variables = parsed(self.template)

    @property
    def inputs(self) -> dict[str, bool]:
        named = [self.columns] if isinstance(self.columns, str) else self.columns or []
        required = dict.fromkeys([*named, *self._variables], True)
        return {**required, **dict.fromkeys(OPTIONAL, False)}


class ChatGeneration(_Writing):
    """Answers the last message of a conversation in `messages`. Columns: as those of `TextGeneration`."""

    inputs = ["messages"]

    def format_input(self, row: Row) -> Chat:
        return list_of(row, "messages", self)

    def sample(self) -> Row:
        return {"messages": [{"role": "user", "content": "<MESSAGE>"}]}
