"""Rewriting by criterion: EvolInstruct for instructions (WizardLM, 2304.12244), EvolQuality for responses (Deita, 2312.15685).

A rewrite is checked before it is used. One that fails is drawn once more: with a seed that its prompt has not had, and
sampled even where the model decodes greedily. If that fails too, the row keeps the reason and the raw text, and the
rewrite is None, so that it can never become a completion to choose.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from course_lib.llms.base import CUT_OFF, SAMPLING, Chat, sampling_arguments
from course_lib.llms.cache import result_key
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.prompts import TEXTS, part_of
from course_lib.steps.tasks.base import Task, finish_reason
from course_lib.steps.tasks.rewrites import rewrite_fault
from course_lib.steps.tasks.rows import chat_of, text_of
from course_lib.steps.tasks.templating import filled, names, shipped


class _Evol(Task):
    """What EvolInstruct and EvolQuality share.

    Args:
        num_evolutions: rewrites in a row, each of the one before.
        store_evolutions: True keeps every rewrite in a list instead of the last one.
        mutation_templates: names of criteria to draw from (the files of the template folder), by default all.
        seed: the criterion of a row depends on the row and the seed, not on its place in a batch.

    Further columns: `evolution_criteria` and `evolution_failures`, with an entry per evolution (None: it went well).
    """

    num_evolutions: int = 1
    store_evolutions: bool = False
    mutation_templates: list[str] | None = None
    seed: int = 0

    folder: ClassVar[str]
    subject: ClassVar[str]
    ends_matter: ClassVar[bool] = False  # whether a row's `finish_reason` is that of the subject

    def criterion(self, row: Row, evolution: int = 0) -> str:
        """The criterion for `row`: the same wherever the row stands."""
        drawn = result_key(self.seed, evolution, [row.get(name) for name in self.inputs])
        return self.criteria[int(drawn, 16) % len(self.criteria)]

    def format_input(self, row: Row, criterion: str | None = None) -> Chat:
        values = {name: text_of(row, name, self) for name in self.inputs}
        prompt = shipped(f"{self.folder}/{criterion or self.criterion(row)}")
        return [{"role": "user", "content": filled(prompt, **values)}]

    def process(self, rows: StepInput) -> StepOutput:
        traces = [Trace(row, row.get(self.subject), row.get("finish_reason") == CUT_OFF) for row in rows]
        for evolution in range(self.num_evolutions):
            todo = [trace for trace in traces if self._begin(trace, evolution)]
            self._attempt(todo)
            self._attempt([trace for trace in todo if trace.faults[-1]])
            for trace in (trace for trace in todo if not trace.faults[-1]):
                trace.text, trace.cut = trace.rewrites[-1], trace.ends[-1] == CUT_OFF
        yield [self._finished(trace) for trace in traces]

    def fault(self, rewrite: str, trace: "Trace", prompt: str) -> str | None:
        """Why `rewrite` cannot be used, or None. Override it to add checks of your own."""
        given = [trace.text, *(trace.row[name] for name in self.inputs)]
        given += [text for column in TEXTS if (text := part_of(trace.row, column))]
        return rewrite_fault(rewrite, trace.text, prompt, given)

    def _begin(self, trace: "Trace", evolution: int) -> bool:
        """Draw the criterion and make the chat; False where there is nothing to rewrite."""
        missing = self.missing(trace.row)
        trace.criteria.append(self.criterion(trace.row, evolution))
        trace.rewrites.append(None)
        trace.faults.append(missing)
        trace.ends.append(CUT_OFF if trace.cut else None)
        if not missing:
            row = {**trace.row, self.subject: trace.text}
            trace.chats.append(self.format_input(row, trace.criteria[-1]))
        return not missing

    def missing(self, row: Row) -> str | None:
        # Nothing to rewrite, such as a completion that failed before: the model is not asked.
        empty = None if str(row.get(self.subject)).strip() else f"no {self.subject}"
        return super().missing(row) or empty

    def _attempt(self, traces: list["Trace"]) -> None:
        """Ask for a rewrite of each, with a seed that its row has not used for the same chat."""
        by_times: dict[int, list[Trace]] = {}
        for trace in traces:
            by_times.setdefault(trace.asked.count(trace.chats[-1]), []).append(trace)
        for times, some in sorted(by_times.items()):
            results = self.llm.generate([trace.chats[-1] for trace in some], **self._sampling(times))
            for trace, result in zip(some, results, strict=True):
                self._tried(trace, result)

    def _tried(self, trace: "Trace", result: dict[str, Any]) -> None:
        text, reason = result["generations"][0], finish_reason(result)
        prompt = trace.chats[-1][-1]["content"]
        trace.rewrites[-1] = text
        fault = (reason or "no text") if text is None else self.fault(text, trace, prompt)
        # What was cut off before lacks its end still.
        trace.faults[-1], trace.ends[-1] = fault, CUT_OFF if trace.cut else None if fault else reason
        trace.asked.append(trace.chats[-1])
        trace.attempts.append(text)
        trace.statistics.append({name: counts[0] for name, counts in result["statistics"].items()})

    def _sampling(self, times: int) -> dict[str, Any]:
        """The arguments for a chat that was asked so many times before."""
        given = sampling_arguments(self.llm.generation_kwargs)
        greedy = times and not given["temperature"]
        warmth = {"do_sample": True, "temperature": SAMPLING["temperature"]} if greedy else {}
        return {"seed": given["seed"] + times, **warmth}

    # --- settings and columns -----------------------------------------------------------------------------------

    def check(self) -> None:
        allowed, given = names(self.folder), self.mutation_templates
        self.criteria = [given] if isinstance(given, str) else list(given or allowed)
        unknown = ", ".join(sorted(set(self.criteria) - set(allowed)))
        original = f"include_original_{self.subject}"
        lone = getattr(self, original) and not self.store_evolutions
        self.refuse(
            {
                f"unknown criterion {unknown}; allowed: {', '.join(allowed)}.": unknown,
                f"num_evolutions={self.num_evolutions}; allowed: 1 or more.": self.num_evolutions < 1,
                f"{original}=True needs store_evolutions=True.": lone,
            }
        )

    @property
    def outputs(self) -> list[str]:
        plural = "s" if self.store_evolutions else ""
        ends = [f"finish_reason{plural}"] if self.ends_matter else []
        evolved = f"evolved_{self.subject}{plural}"
        return [evolved, "evolution_criteria", "evolution_failures", *ends, "model_name"]

    def _finished(self, trace: "Trace") -> Row:
        original = [trace.row[self.subject]] if getattr(self, f"include_original_{self.subject}") else []
        sound = [None if fault else text for text, fault in zip(trace.rewrites, trace.faults, strict=True)]
        last = next((i for i in reversed(range(len(sound))) if sound[i] is not None), -1)
        plural = "s" if self.store_evolutions else ""
        ends = [*([trace.row.get("finish_reason")] if original else []), *trace.ends]
        return {
            **trace.row,
            f"evolved_{self.subject}{plural}": [*original, *sound] if plural else sound[last],
            "evolution_criteria": trace.criteria,
            "evolution_failures": trace.faults,
            **({f"finish_reason{plural}": ends if plural else ends[last]} if self.ends_matter else {}),
            "model_name": self.llm.model_name,
            "distilabel_metadata": self.metadata(trace.row, trace.chats, trace.attempts, trace.statistics),
        }


@dataclass
class Trace:
    """What happened to one row: its current text, whether that is cut off, and the tries to better it."""

    row: Row
    text: str
    cut: bool
    # An entry for each evolution; `ends`: why the model stopped, `length` for what is cut off.
    criteria: list[str] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)
    rewrites: list[str | None] = field(default_factory=list)
    ends: list[str | None] = field(default_factory=list)
    faults: list[str | None] = field(default_factory=list)
    # An entry for each attempt, of which an evolution has one or two.
    asked: list[Chat] = field(default_factory=list)
    attempts: list[str | None] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)


class EvolInstruct(_Evol):
    """Rewrites each `instruction` to be harder by a criterion: breadth, concretising, constraints, deepening, reasoning.

    Columns: `evolved_instruction`, or with `store_evolutions` the list `evolved_instructions`.
    """

    include_original_instruction: bool = False

    inputs = ["instruction"]
    folder = "evol_instruct"
    subject = "instruction"


class EvolQuality(_Evol):
    """Rewrites each `response` to be better by a criterion: creativity, deepening, details, helpfulness, relevance.

    Columns: `evolved_response`, or with `store_evolutions` the list `evolved_responses`; `finish_reason` or the list
    `finish_reasons`: `length` for a rewrite that was cut off, or whose original was.
    """

    include_original_response: bool = False

    inputs = ["instruction", "response"]
    folder = "evol_quality"
    subject = "response"
    ends_matter = True

    def format_input(self, row: Row, criterion: str | None = None) -> Chat:
        *system, question = chat_of(row, self)
        whole = {**row, "instruction": question["content"]}
        return [*system, *super().format_input(whole, criterion or self.criterion(row))]
