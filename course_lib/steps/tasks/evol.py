"""Rewriting by criterion: EvolInstruct for instructions (WizardLM, 2304.12244), EvolQuality for responses (Deita, 2312.15685).

A rewrite is checked before it is used. One that fails is drawn once more: with a seed that its prompt has not had, and
sampled even where the model decodes greedily. If that fails too, the row keeps the reason and the raw text, and the
rewrite is None, so that it can never become a completion to choose.
"""

from typing import Any, ClassVar

from course_lib.errors import InputError
from course_lib.llms.base import CUT_OFF, SAMPLING, Chat, sampling_arguments
from course_lib.llms.cache import result_key
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.tasks.base import Task, finish_reason
from course_lib.steps.tasks.rewrites import rewrite_fault
from course_lib.steps.tasks.rows import instruction_of, text_of
from course_lib.steps.tasks.templating import filled, names, shipped


class _Evol(Task):
    """What EvolInstruct and EvolQuality share.

    Args:
        num_evolutions: rewrites in a row, each of the one before.
        store_evolutions: True keeps every rewrite in a list instead of the last one.
        mutation_templates: names of criteria to draw from (the files of the template folder), by default all.
        seed: the criterion of a row depends on the row and the seed, not on its place in a batch.

    Further columns: `evolution_criteria` and `evolution_failures`, a list with an entry per evolution (None: it went
    well); `finish_reason` (`length`: a rewrite that was used, or the text before it, was cut off).
    """

    num_evolutions: int = 1
    store_evolutions: bool = False
    mutation_templates: list[str] | None = None
    seed: int = 0
    language: str = "en"

    folder: ClassVar[str]
    subject: ClassVar[str]

    def __post_init__(self):
        super().__post_init__()
        self.check()

    def check(self) -> None:
        allowed, asked = names(self.folder, self.language), self.mutation_templates
        self.criteria = [asked] if isinstance(asked, str) else list(asked or allowed)
        unknown = sorted(set(self.criteria) - set(allowed))
        if unknown:
            raise InputError(
                f"Step {self.name!r}: unknown criterion {', '.join(unknown)}; allowed: {', '.join(allowed)}."
            )
        if self.num_evolutions < 1:
            raise InputError(f"Step {self.name!r}: num_evolutions={self.num_evolutions}; allowed: 1 or more.")
        if getattr(self, f"include_original_{self.subject}") and not self.store_evolutions:
            raise InputError(
                f"Step {self.name!r}: include_original_{self.subject}=True needs store_evolutions=True."
            )

    def criterion(self, row: Row, evolution: int = 0) -> str:
        """The criterion for `row`: the same wherever the row stands."""
        drawn = result_key(self.seed, evolution, [row.get(name) for name in self.inputs])
        return self.criteria[int(drawn, 16) % len(self.criteria)]

    def format_input(self, row: Row, criterion: str | None = None) -> Chat:
        values = self._values(row)
        prompt = shipped(f"{self.folder}/{criterion or self.criterion(row)}", self.language)
        return [{"role": "user", "content": filled(prompt, **values)}]

    def _values(self, row: Row) -> Row:
        """What the template is filled with."""
        return {name: text_of(row, name, self) for name in self.inputs}

    def process(self, rows: StepInput) -> StepOutput:
        traces = [_Trace(row, self.subject, self._missing(row)) for row in rows]
        for evolution in range(self.num_evolutions):
            self._evolve([t for t in traces if not t.missing], evolution)
        for trace in traces:
            if trace.missing:
                trace.skipped(
                    [self.criterion(trace.row, evolution) for evolution in range(self.num_evolutions)]
                )
        yield [self._finished(trace) for trace in traces]

    def _evolve(self, traces: list["_Trace"], evolution: int) -> None:
        """One rewrite of each; those that fail are drawn once more."""
        todo = traces
        for again in (False, True):
            chats = [
                self.format_input({**t.row, self.subject: t.text}, self.criterion(t.row, evolution))
                for t in todo
            ]
            for trace, chat, result in zip(todo, chats, self._draws(todo, chats), strict=True):
                text = result["generations"][0]
                fault = (
                    finish_reason(result) or "no text"
                    if text is None
                    else self.fault(text, trace, chat[-1]["content"])
                )
                trace.tried(chat, text, fault, result, again)
            todo = [trace for trace in todo if trace.faults[-1]]
        for trace in traces:
            trace.criteria.append(self.criterion(trace.row, evolution))
            trace.text = trace.text if trace.faults[-1] else trace.raw[-1]

    def _draws(self, traces: list["_Trace"], chats: list[Chat]) -> list[dict[str, Any]]:
        """The model's answer to each chat, with a seed that its row has not used for the same chat."""
        times = [trace.asked.count(chat) for trace, chat in zip(traces, chats, strict=True)]
        groups = {
            n: [chat for chat, count in zip(chats, times, strict=True) if count == n]
            for n in sorted(set(times))
        }
        answers = {n: iter(self.llm.generate(group, **self._sampling(n))) for n, group in groups.items()}
        return [next(answers[n]) for n in times]

    def _sampling(self, asked: int) -> dict[str, Any]:
        given = sampling_arguments(self.llm.generation_kwargs)
        greedy = asked and not given["temperature"]
        warmth = {"do_sample": True, "temperature": SAMPLING["temperature"]} if greedy else {}
        return {"seed": given["seed"] + asked, **warmth}

    def fault(self, rewrite: str, trace: "_Trace", prompt: str) -> str | None:
        """Why `rewrite` cannot be used, or None. Override it to add checks of your own."""
        given = [trace.text, *(trace.row[name] for name in self.inputs)]
        return rewrite_fault(rewrite, trace.text, prompt, given)

    def _finished(self, trace: "_Trace") -> Row:
        good = [raw if fault is None else None for raw, fault in zip(trace.raw, trace.faults, strict=True)]
        last = next((text for text in reversed(good) if text is not None), None)
        outputs = (
            {f"evolved_{self.subject}s": [*self._original(trace), *good]} if self.store_evolutions else {}
        )
        if not self.store_evolutions:
            outputs = {f"evolved_{self.subject}": last}
        metadata = self.metadata(trace.row, trace.chats, trace.attempts, trace.statistics)
        return {
            **trace.row,
            **outputs,
            "evolution_criteria": trace.criteria,
            "evolution_failures": trace.faults,
            "finish_reason": trace.finish_reason,
            "model_name": self.llm.model_name,
            "distilabel_metadata": metadata,
        }

    def _original(self, trace: "_Trace") -> list[str]:
        return [trace.row[self.subject]] if getattr(self, f"include_original_{self.subject}") else []

    @property
    def outputs(self) -> list[str]:
        name = f"evolved_{self.subject}s" if self.store_evolutions else f"evolved_{self.subject}"
        return [name, "evolution_criteria", "evolution_failures", "finish_reason", "model_name"]


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

    Columns: `evolved_response`, or with `store_evolutions` the list `evolved_responses`.
    """

    include_original_response: bool = False

    inputs = ["instruction", "response"]
    folder = "evol_quality"
    subject = "response"

    def _values(self, row: Row) -> Row:
        return {**super()._values(row), "instruction": instruction_of(row, self)}


class _Trace:
    """What happened to one row: its current text, and for each evolution the criterion, raw text and fault."""

    def __init__(self, row: Row, subject: str, missing: str | None):
        self.row, self.text = row, row.get(subject)
        # Nothing to rewrite, such as a completion that failed before: the model is not asked.
        self.missing = missing or (None if str(self.text).strip() else f"no {subject}")
        self.criteria: list[str] = []
        self.asked: list[Chat] = []
        self.chats: list[Chat] = []
        self.raw: list[str | None] = []
        self.faults: list[str | None] = []
        self.attempts: list[str | None] = []
        self.statistics: list[dict[str, Any]] = []
        # A rewrite of a text that was cut off is cut off too.
        self.finish_reason: str | None = CUT_OFF if row.get("finish_reason") == CUT_OFF else None

    def skipped(self, criteria: list[str]) -> None:
        self.criteria, self.raw, self.faults = (
            criteria,
            [None] * len(criteria),
            [self.missing] * len(criteria),
        )

    def tried(
        self, chat: Chat, text: str | None, fault: str | None, result: dict[str, Any], again: bool
    ) -> None:
        self.asked.append(chat)
        self.attempts.append(text)
        self.statistics.append({name: counts[0] for name, counts in result["statistics"].items()})
        if fault is None and self.finish_reason != CUT_OFF:
            self.finish_reason = finish_reason(result)
        if again:
            self.raw[-1], self.faults[-1] = text, fault
        else:
            self.chats.append(chat)
            self.raw.append(text)
            self.faults.append(fault)
