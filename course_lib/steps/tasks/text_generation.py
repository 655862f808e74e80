"""Completions for instructions and for conversations."""

from typing import Any

from course_lib.llms.base import Chat
from course_lib.steps.base import Row
from course_lib.steps.prompts import OPTIONAL, part_of, prompt_of
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.rows import text_of
from course_lib.steps.tasks.templating import filled, parsed


class TextGeneration(Task):
    """Answers each `instruction`.

    Args:
        system_prompt: what the model is told before the instruction. A row's own column `system_prompt` is told first.
        template: Jinja text for the user's message; its variables are columns of the rows. Without one, it is the
            `instruction`, and the row's `input` below where it has one.
        columns: further columns that the template may use without them being asked for in every row.

    Columns: `generation`, `model_name`, `finish_reason` (`length`: the text was cut off).
    """

    system_prompt: str | None = None
    template: str = "{{ instruction }}"
    columns: str | list[str] | None = None

    outputs = ["generation", "model_name", "finish_reason"]

    def __post_init__(self):
        super().__post_init__()
        self.check()

    def check(self) -> None:
        self._template, self._variables = parsed(self.template)

    @property
    def inputs(self) -> dict[str, bool]:
        named = [self.columns] if isinstance(self.columns, str) else self.columns or []
        return {**dict.fromkeys(OPTIONAL, False), **dict.fromkeys([*named, *self._variables], True)}

    def format_input(self, row: Row) -> Chat:
        if self.template == TextGeneration.template:
            text_of(row, "instruction", self)
            user = prompt_of(row)[-1]["content"].strip()
        else:
            user = filled(self._template, **{name: row[name] for name in self.inputs if name in row})
        own = None if "system_prompt" in self._variables else part_of(row, "system_prompt")
        system = "\n\n".join(text for text in (own, self.system_prompt) if text)
        messages = [{"role": "system", "content": system}] if system else []
        return [*messages, {"role": "user", "content": user}]

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        return {"generation": output}


class ChatGeneration(Task):
    """Answers the last message of a conversation in `messages`. Columns as those of `TextGeneration`."""

    inputs = ["messages"]
    outputs = TextGeneration.outputs

    def format_input(self, row: Row) -> Chat:
        return row["messages"]

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        return {"generation": output}

    def sample(self) -> Row:
        return {"messages": [{"role": "user", "content": "<MESSAGE>"}]}
