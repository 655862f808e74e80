"""Tasks: steps that ask a language model.

To write one, subclass `Task`, name its columns, and say how a row becomes a chat and a text becomes columns:

    class Translate(Task):
        language: str = "French"
        inputs = ["text"]
        outputs = ["translation", "model_name"]

        def format_input(self, row):
            return [{"role": "user", "content": f"Translate into {self.language}: {row['text']}"}]

        def format_output(self, output, row):
            return {"translation": output}
"""

from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat
from course_lib.steps.base import Row, Step, StepInput, StepOutput, required_columns
from course_lib.steps.tasks.rows import brief, is_missing
from course_lib.steps.tasks.templating import framed


class Task(Step):
    """A step with a language model.

    Args:
        llm: the model.
        num_generations: completions per row.
        group_generations: True gives one row with lists of outputs; False one row for each completion.
        add_raw_input, add_raw_output: keep the chat and the model's text in the column `distilabel_metadata`.
    """

    llm: LLM
    num_generations: int = 1
    group_generations: bool = False
    add_raw_input: bool = True
    add_raw_output: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.check()

    def refuse(self, faults: dict[str, Any]) -> None:
        """Raise `InputError` with the first of `faults`, sentences by whether they are true."""
        for fault in (fault for fault, is_so in faults.items() if is_so):
            raise InputError(f"Step {self.name!r}: {fault}")

    @property
    def llms(self) -> list[LLM]:
        return [self.llm]

    def unload(self) -> None:
        for llm in self.llms:
            llm.unload()

    def format_input(self, row: Row) -> Chat:
        """The chat for `row`."""
        raise TypeError(f"{type(self).__name__} must define format_input")

    def format_output(self, output: str | None, row: Row) -> dict[str, Any]:
        """The columns for the model's text; None where it could not write."""
        raise TypeError(f"{type(self).__name__} must define format_output")

    def process(self, rows: StepInput) -> StepOutput:
        chats = [None if self.missing(row) else self.format_input(row) for row in rows]
        asked = [chat for chat in chats if chat is not None]
        results = iter(self.llm.generate(asked, num_generations=self.num_generations))
        finished: list[Row] = []
        for row, chat in zip(rows, chats, strict=True):
            result = self._unwritten(row) if chat is None else next(results)
            outputs = [self._output(row, chat, result, draw) for draw in range(self.num_generations)]
            separate = [{**row, **output} for output in outputs]
            finished += [_grouped(row, outputs)] if self.group_generations else separate
        yield finished

    def missing(self, row: Row) -> str | None:
        """Why the model is not asked about `row`: a step before this one left a column without a value."""
        for column in required_columns(self.inputs):
            if column not in row:
                needs = f"Step {self.name!r} needs the column {column!r}"
                raise InputError(f"{needs}, but a row has none: {brief(row)}")
            if is_missing(row[column]):
                return f"no {column}"
        return None

    def _unwritten(self, row: Row) -> dict[str, Any]:
        """What `LLM.generate` gives where the model could not be asked."""
        nothing, zeros = [None] * self.num_generations, [0] * self.num_generations
        reasons = [self.missing(row)] * self.num_generations
        statistics = {"input_tokens": zeros, "output_tokens": zeros}
        return {"generations": nothing, "finish_reasons": reasons, "statistics": statistics}

    def _output(self, row: Row, chat: Chat, result: dict[str, Any], draw: int) -> Row:
        text = result["generations"][draw]
        statistics = {name: counts[draw] for name, counts in result["statistics"].items()}
        statistics["finish_reason"] = finish_reason(result, draw)
        metadata = self.metadata(row, chat, text, statistics)
        kept = {"finish_reason", "finish_reasons"} & set(self.outputs)
        ended = {"finish_reason": statistics["finish_reason"]} if kept else {}
        rest = {"distilabel_metadata": metadata, "model_name": self.llm.model_name}
        return {**self.format_output(text, row), **ended, **rest}

    def metadata(self, row: Row, raw_input: Any, raw_output: Any, statistics: Any = None) -> dict[str, Any]:
        """The row's `distilabel_metadata` with what this task read and wrote."""
        added = {f"statistics_{self.name}": statistics} if statistics is not None else {}
        if self.add_raw_input:
            added[f"raw_input_{self.name}"] = raw_input
        if self.add_raw_output:
            added[f"raw_output_{self.name}"] = raw_output
        return {**(row.get("distilabel_metadata") or {}), **added}

    def print(self, sample: Row | None = None) -> None:
        """Show the prompt for `sample` (by default with placeholders) without asking the model."""
        placeholders = {name: f"<{name.upper()}>" for name in required_columns(self.inputs)}
        row = {**placeholders, **self.sample(), **(sample or {})}
        print(framed(f"Prompt: {type(self).__name__}", self.format_input(row)))

    def sample(self) -> Row:
        """Placeholders for the inputs that are not text."""
        return {}


def _grouped(row: Row, outputs: list[Row]) -> Row:
    """One row for all draws: each column a list, `model_name` and what earlier tasks told as they were."""
    lists = {key: [output[key] for output in outputs] for key in outputs[0]}
    if "finish_reason" in lists:
        lists["finish_reasons"] = lists.pop("finish_reason")
    told = lists["distilabel_metadata"]
    metadata = {key: [entry.get(key) for entry in told] for key in told[0]}
    metadata |= row.get("distilabel_metadata") or {}
    return {**row, **lists, "distilabel_metadata": metadata, "model_name": outputs[0]["model_name"]}


def finish_reason(result: dict[str, Any], draw: int = 0) -> str | None:
    """Why the model stopped writing; None where its `generate` gives no `finish_reasons`."""
    reasons = result.get("finish_reasons")
    return reasons[draw] if reasons else None
