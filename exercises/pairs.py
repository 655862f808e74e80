"""Preference pairs: rows as FormatTextGenerationDPO makes them, and whether a learner's are right and as TRL takes them."""

from course_lib.exercises.checks import call, data, equal, excerpt, expect, is_pair, require
from course_lib.llms import ScriptedLLM
from course_lib.steps import FormatTextGenerationDPO, StepInput, StepOutput, step

# By instruction: what three models write, and how that is rated.
POOL = {text: (list(texts), list(texts.values())) for text, texts in data("pool").items()}


def formatted(rated: dict[str, tuple[list, list]], min_margin: float) -> dict[str, dict]:
    """What FormatTextGenerationDPO makes of rated rows, by their names."""
    rows = [{"instruction": name, "generations": row[0], "ratings": row[1]} for name, row in rated.items()]
    step_output = FormatTextGenerationDPO(min_margin=min_margin).process(rows)
    return {row["instruction"]: row for row in next(step_output)}


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def formatted_row(
    before: list[dict], good="Air scatters blue most.", bad="Because.", high=4.5, low=1.5
) -> dict:
    """A row as FormatTextGenerationDPO makes it."""
    texts = {"chosen": good, "rejected": bad}
    sides = {side: [*before, message("assistant", text)] for side, text in texts.items()}
    ratings = {"chosen_rating": high, "rejected_rating": low, "chosen_model": "m", "rejected_model": "n"}
    return {"prompt": before[-1]["content"], "prompt_id": "0a", **sides, **ratings}


def check_trl_rows(answer, rows: list[dict], where: str) -> None:
    """Raise `Wrong` unless the learner's function makes of formatted rows what TRL takes."""
    result = call(answer, rows)
    expect(hasattr(result, "__iter__"), "a list of rows", result)
    result, pairs = list(result), list(filter(_is_pair, rows))
    count = f"{len(rows)} rows went in, {len(result)} came out; expected {len(pairs)}."
    require(len(result) == len(pairs), f"{where}: {count}")
    for row, source in zip(result, pairs, strict=True):
        _check_row(row, source, where)


def _is_pair(row: dict) -> bool:
    return row["chosen_rating"] != row["rejected_rating"] and row["chosen"] != row["rejected"]


def _check_row(row, source: dict, where: str) -> None:
    _check_messages(row, where)
    *prompt, chosen = source["chosen"]
    expected = {"prompt": prompt, "chosen": [chosen], "rejected": source["rejected"][-1:]}
    for name, messages in expected.items():
        whole = f"{name} is the whole conversation, so the model would read the question twice. Keep the completion only"
        lost = "that is the last question alone. The system message or earlier turns are lost"
        equal(row[name], messages, f"{where}, {name}", {whole: source[name], lost: prompt[-1:]})


def _check_messages(row, where: str) -> None:
    """A row as TRL takes it."""
    wanted = "the columns prompt, chosen and rejected and no others, each a list of messages, even if it is only one"
    columns = isinstance(row, dict) and set(row) == {"prompt", "chosen", "rejected"} and row.values()
    expect(columns and all(map(_is_conversation, columns)), wanted, row, where)


def _is_conversation(value) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)


@step(inputs=["instruction", "generations"], outputs=["ratings"])
def RatesByTable(rows: StepInput) -> StepOutput:
    """A judge that looks its ratings up."""
    known = {text: rating for row in POOL.values() for text, rating in zip(*row, strict=True)}
    yield [{**row, "ratings": [known.get(text) for text in row["generations"]]} for row in rows]


def check_dataset(answer, instructions: list[str], models: int, min_margin: float) -> None:
    """Raise `Wrong` unless the learner's function makes the right pairs of what so many models write, and loses no row."""
    where = f"For {len(instructions)} instructions, {models} models and min_margin {min_margin}"
    llms = [ScriptedLLM(_writer(place), model_name=f"m{place}") for place in range(models)]
    result = call(answer, instructions, llms, RatesByTable, min_margin)
    lists = is_pair(result) and not any(isinstance(part, dict) for part in result)
    lists = lists and all(hasattr(part, "__iter__") for part in result)
    expect(lists, "(pairs, dropped), the rows of both without their splits", result, where)
    rated = {text: (POOL[text][0][:models], POOL[text][1][:models]) for text in instructions}
    expected = formatted(rated, min_margin)
    pairs = {text: row for text, row in expected.items() if "drop_reason" not in row}
    answered = list(result[0])
    prompts = [_prompt(row, where) for row in answered]
    for prompt in [*prompts, *pairs]:
        ratings = rated.get(prompt, [None, "by nobody"])[1]
        counts = f"came out in {prompts.count(prompt)} pairs; expected {int(prompt in pairs)}"
        right = prompts.count(prompt) == (prompt in pairs)
        require(right, f"{where}: the prompt {excerpt(prompt)}, rated {ratings}, {counts}.")
    for prompt, row in zip(prompts, answered, strict=True):
        _check_row(row, pairs[prompt], f"{where} and {prompt!r}")
    _none_lost(list(result[1]), sorted(expected.keys() - pairs.keys()), where)


def _writer(place: int):
    """What the model at `place` writes; None where it is asked something else."""
    return lambda chat: POOL.get(chat[-1]["content"], ([None] * 3,))[0][place]


def _prompt(row, where: str) -> str:
    _check_messages(row, where)
    return " ".join(str(message.get("content")) for message in row["prompt"])


def _none_lost(dropped: list, wanted: list[str], where: str) -> None:
    reasons = [isinstance(row, dict) and row.get("drop_reason") for row in dropped]
    with_reasons = all(isinstance(reason, str) and reason for reason in reasons)
    expect(with_reasons, "rows in dropped with their drop_reason, as in distiset['dropped']", dropped, where)
    texts = sorted(str(row.get("instruction")) for row in dropped)
    equal(texts, wanted, f"{where}, the instructions in dropped, where no row is lost in silence")
