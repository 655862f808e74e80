"""Rating by likelihood."""

import math
from typing import Any

import course_lib.steps.tasks.base as base
from course_lib.llms.base import LLM
from course_lib.steps.base import Row, StepInput, StepOutput


class LikelihoodRating(base.Task):
    llm: Any = None
    panel: list[LLM]
    inputs = ["instruction", "generations"]
    outputs = ["ratings", "model_name"]

    @property
    def llms(self):
        return self.panel

    def process(self, rows: StepInput) -> StepOutput:
        where = [(r, i) for r, row in enumerate(rows) for i, text in enumerate(row["generations"]) if text]
        chats = [[{"role": "user", "content": rows[r]["instruction"]}] for r, _ in where]
        texts = [rows[r]["generations"][i] for r, i in where]
        scores = [llm.log_likelihood(chats, texts) for llm in self.panel]
        ratings = [[None] * len(row["generations"]) for row in rows]
        for k, (r, i) in enumerate(where):
            mean = sum(s[k] for s in scores) / len(scores)
            ratings[r][i] = round(1 + 4 / (1 + math.exp(-(mean + 1.5) * 3)), 4)
        yield [{**row, "ratings": ratings[r], "model_name": "panel"} for r, row in enumerate(rows)]
