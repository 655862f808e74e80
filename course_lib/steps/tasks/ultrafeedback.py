"""UltraFeedback: a rating from 1 to 5 for each completion of an instruction (Cui et al. 2023, 2310.01377).

Two modes. `text` shows all completions at once and has the model write a rating and a rationale for each. `logits`
shows one at a time and takes the mean of the model's distribution over the five rating tokens, in one forward pass;
that mean beats the likeliest token in most comparisons (Wang et al. 2025, 2503.03064).
"""

from typing import Any

from course_lib.llms.answers import UNREAD
from course_lib.llms.base import CUT_OFF, Chat
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.prompts import OPTIONAL
from course_lib.steps.tasks.base import Task, finish_reason
from course_lib.steps.tasks.judgements import TOO_LONG, Judgement, Sheet, averaged, rating_columns, to_rate
from course_lib.steps.tasks.parsing import parse_ratings, ratings_schema, read_ratings
from course_lib.steps.tasks.rows import has_words, instruction_of, texts_of
from course_lib.steps.tasks.templating import filled, framed, names, shipped, without_middle

SCALE = ["1", "2", "3", "4", "5"]
SHORTEST = 40  # characters; nothing is cut below this


class UltraFeedback(Task):
    """Rates the completions in `generations`.

    Args:
        aspect: one aspect or several: overall-rating, helpfulness, honesty, instruction-following, truthfulness,
            relevance, deepening, creativity.
        mode: "text" or "logits"; "logits" needs a model whose probabilities can be seen.
        rationales: have the model explain each rating; by default in text mode only.
        swap: text mode: rate in both orders and average; the difference is kept in `ratings_disagreement`.
        rationale_tokens: longest rationale.
        use_default_structured_output: have a server that takes a JSON schema (see `ENDPOINTS`) hold the model's answer to
            one; where it refuses the schema, the judge asks again without.

    Columns: `ratings` (float in 1-5, or None) and `rationales`, one per completion and in their order;
    `model_name`. Several aspects give `ratings_<aspect>` and so on for each; then `ratings` are the means, and
    `rationales` has them all, by name. How each rating came about stands in `distilabel_metadata`.

    On a model whose probabilities can be seen, the frame of the answer is written by us and the model fills in
    only rating and rationale, so N completions always give N ratings, unless they are too many for its context.
    The reply of any other model is parsed. One that a schema does not allow gives no rating, but a reason.
    """

    aspect: str | list[str] = "overall-rating"
    mode: str = "text"
    rationales: bool | None = None
    swap: bool = False
    rationale_tokens: int = 60
    use_default_structured_output: bool = True

    inputs = ["instruction", "generations"]

    _plain = False  # while the answer is asked for without a schema that was refused

    def format_input(self, row: Row, aspect: str | None = None, shown: list[str] | None = None) -> Chat:
        """The listwise prompt in text mode; in logits mode the prompt for the one text in `shown`."""
        if shown is None:
            shown = [text for text in texts_of(row, "generations", self) if has_words(text)]
        frame, texts = ("listwise", shown) if self.mode == "text" else ("pointwise", shown[:1])
        prompt = shipped(f"ultrafeedback/{aspect or self.aspects[0]}")
        layout = shipped(f"ultrafeedback/_{frame}")
        form = {"in_json": self._in_json, "explained": self._explains}
        content = filled(prompt, layout=layout, instruction=instruction_of(row, self), texts=texts, **form)
        system = filled(shipped("ultrafeedback/_system"))
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]

    def process(self, rows: StepInput) -> StepOutput:
        judged = {aspect: self._judged(rows, aspect) for aspect in self.aspects}
        yield [self._finished(row, {a: judged[a][i] for a in self.aspects}) for i, row in enumerate(rows)]

    def _judged(self, rows: StepInput, aspect: str) -> list[list[Judgement]]:
        """For each row the judgements of its completions."""
        listwise = self._fill_in if self.llm.can_score else self._parse
        rate = listwise if self.mode == "text" else self._believe
        orders = []
        for step in (1, -1) if self.swap else (1,):
            judged = [[Judgement(text) for text in texts_of(row, "generations", self)] for row in rows]
            sheets: list[Sheet] = []
            for row, judgements in zip(rows, judged, strict=True):
                texts = to_rate(judgements)[::step]
                groups = [texts] if self.mode == "text" else [[text] for text in texts]
                sheets += [Sheet(row, group, aspect) for group in groups if group]
            rate([sheet for sheet in sheets if self._prompted(sheet)])
            orders.append(judged)
        return [list(map(averaged, *both)) for both in zip(*orders, strict=True)] if self.swap else orders[0]

    def _believe(self, sheets: list[Sheet]) -> None:
        """Each text on its own: the mean of the distribution over the scale."""
        chats = [sheet.chat for sheet in sheets]
        distributions = self.llm.choice_probabilities(chats, SCALE, prefill="Rating: ").tolist()
        for sheet, distribution in zip(sheets, distributions, strict=True):
            sheet.answer = "Rating: "
            sheet.rate(0, round(sum(k * p for k, p in enumerate(distribution, start=1)), 4), distribution)
        if self._explains:
            self._explain(sheets, 0)

    def _fill_in(self, sheets: list[Sheet]) -> None:
        """Text after text, the frame of the answer is ours: the model chooses a digit, then writes a rationale."""
        for number in range(max((len(sheet.judgements) for sheet in sheets), default=0)):
            current = [sheet for sheet in sheets if len(sheet.judgements) > number]
            for sheet in current:
                sheet.answer += f"#### Text {number + 1}\nRating: "
            chats = [sheet.chat_so_far for sheet in current]
            distributions = self.llm.choice_probabilities(chats, SCALE).tolist()
            for sheet, distribution in zip(current, distributions, strict=True):
                sheet.rate(number, float(1 + max(range(5), key=distribution.__getitem__)), distribution)
            rationales = self._explain(current, number) if self._explains else [""] * len(current)
            for sheet, rationale in zip(current, rationales, strict=True):
                opening, sheet.answer = sheet.answer, f"{sheet.answer} {rationale or ''}\n\n"
                # Odd text can be more tokens to read than it was to write.
                if not self._fits(sheet.chat_so_far, len(sheet.judgements) - number - 1):
                    sheet.answer = f"{opening} […]\n\n"

    def _parse(self, sheets: list[Sheet]) -> None:
        """The model writes the whole answer, and what it wrote is read."""
        if self._in_json:
            refused = self._refused(sheets)
            self._plain = True
            try:
                sheets = [sheet for sheet in refused if self._prompted(sheet)]
            finally:
                self._plain = False
        results = self.llm.generate([sheet.chat for sheet in sheets])
        for sheet, result in zip(sheets, results, strict=True):
            reply = result["generations"][0]
            # What a reply says last, where it was cut off, may be half a number.
            whole = f"{reply}…" if reply and finish_reason(result) == CUT_OFF else reply
            texts = [judgement.text for judgement in sheet.judgements]
            sheet.note(parse_ratings(whole, len(texts), texts), reply)

    def _refused(self, sheets: list[Sheet]) -> list[Sheet]:
        """The server holds the answer to a schema; the sheets for which it refuses that."""
        refused = []
        for count in sorted({len(sheet.judgements) for sheet in sheets}):
            asked = [sheet for sheet in sheets if len(sheet.judgements) == count]
            schema = ratings_schema(count, self._explains)
            results = self.llm.generate([sheet.chat for sheet in asked], json_schema=schema)
            for sheet, result in zip(asked, results, strict=True):
                reply, texts = result["generations"][0], [judgement.text for judgement in sheet.judgements]
                sheet.note(read_ratings(reply, schema, texts), reply)
                refused += [sheet] if (finish_reason(result) or "").startswith(UNREAD) else []
        return refused

    def _explain(self, sheets: list[Sheet], number: int) -> list[str | None]:
        """What the model writes as the rationale of the rating that each sheet ends with."""
        limits = {"max_new_tokens": self.rationale_tokens, "stop_strings": ["\n\n", "####"]}
        results = self.llm.generate([sheet.chat_so_far for sheet in sheets], **limits)
        rationales = [result["generations"][0] for result in results]
        for sheet, rationale in zip(sheets, rationales, strict=True):
            sheet.judgements[number].rationale = rationale if has_words(rationale) else None
        return rationales

    # --- prompts that fit ---------------------------------------------------------------------------------------

    def _prompted(self, sheet: Sheet) -> bool:
        """Give a sheet its prompt; False and a reason if it never fits the model.

        Its longest parts are cut in the middle until it and the answer fit.
        """
        whole = [instruction_of(sheet.row, self), *(judgement.text for judgement in sheet.judgements)]
        parts = list(whole)
        while True:
            asked = {"instruction": parts[0], **dict.fromkeys(OPTIONAL)}
            sheet.chat = self.format_input({**sheet.row, **asked}, sheet.aspect, parts[1:])
            if self._fits(sheet.chat, len(sheet.judgements)):
                break
            longest = max(range(len(parts)), key=lambda i: len(parts[i]))
            if len(parts[longest]) // 2 < SHORTEST:
                for judgement in sheet.judgements:
                    judgement.reason = TOO_LONG
                return False
            parts[longest] = without_middle(parts[longest])
        for judgement, part in zip(sheet.judgements, parts[1:], strict=True):
            judgement.shortened = parts[0] != whole[0] or part != judgement.text
            judgement.chat, judgement.text = sheet.chat, part
        return True

    def _fits(self, chat: Chat, unrated: int) -> bool:
        """Whether the model has room for `chat` and the blocks of the texts that are still unrated."""
        explains = self._explains or not self.llm.can_score
        block = " and" * (20 + self.rationale_tokens * explains)
        return self.llm.fits("\n".join(message["content"] for message in chat) + block * unrated)

    # --- settings and columns -----------------------------------------------------------------------------------

    def check(self) -> None:
        allowed, logits = names("ultrafeedback"), self.mode == "logits"
        unknown = [aspect for aspect in self.aspects if aspect not in allowed]
        alone = "swap=True with mode='logits', which rates each text alone: there is no order to swap."
        hidden = f"mode='logits' needs probabilities, which {self.llm!r} hides. Use mode='text'."
        self.refuse(
            {
                f"unknown aspect {unknown}; allowed: {', '.join(allowed)}.": unknown or not self.aspects,
                f"mode={self.mode!r}; allowed: 'text', 'logits'.": self.mode not in ("text", "logits"),
                f"{alone} Use mode='text', or leave out swap.": logits and self.swap,
                hidden: logits and not self.llm.can_score,
            }
        )

    @property
    def aspects(self) -> list[str]:
        return [self.aspect] if isinstance(self.aspect, str) else list(self.aspect)

    @property
    def outputs(self) -> list[str]:
        return [*rating_columns({aspect: [] for aspect in self.aspects}, self.swap), "model_name"]

    @property
    def _explains(self) -> bool:
        return self.mode == "text" if self.rationales is None else bool(self.rationales)

    @property
    def _in_json(self) -> bool:
        asked = self.mode == "text" and self.use_default_structured_output and not self._plain
        return asked and self.llm.takes_schema

    def sample(self) -> Row:
        return {"generations": ["<GENERATION 1>", "<GENERATION 2>"]}

    def _finished(self, row: Row, judged: dict[str, list[Judgement]]) -> Row:
        rest = {"model_name": self.llm.model_name, "distilabel_metadata": self._metadata(row, judged)}
        return {**row, **rating_columns(judged, self.swap), **rest}

    def _metadata(self, row: Row, judged: dict[str, list[Judgement]]) -> dict[str, Any]:
        """The row's metadata: what the model read, and how each rating came about."""
        judge = {"judge": f"{type(self).__name__}, {self.llm.model_name}", "mode": self.mode}
        how, prompts, replies = {}, [], {}
        for aspect, judgements in judged.items():
            how[aspect] = [{**judge, **judgement.explained()} for judgement in judgements]
            asked = [judgement for judgement in judgements if judgement.chat][:1]
            prompts += [framed("Prompt", judgement.chat) for judgement in asked]
            replies[aspect] = [reply for judgement in asked for reply in judgement.replies]
        metadata = self.metadata(row, "\n\n".join(prompts) if self.mode == "text" else None, how)
        parsed = {f"raw_replies_{self.name}": replies} if not self.llm.can_score else {}
        return {**metadata, **(parsed if self.add_raw_output else {})}
