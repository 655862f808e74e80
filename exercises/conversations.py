"""Pairs as conversations: rows as FormatTextGenerationDPO makes them, and whether others are as TRL takes them."""

from course_lib.exercises.checks import equal, expect


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


def gives_pair(row: dict) -> bool:
    return row["chosen_rating"] != row["rejected_rating"] and row["chosen"] != row["rejected"]


def check_trl_row(row, source: dict, where: str) -> None:
    check_messages(row, where)
    *prompt, chosen = source["chosen"]
    expected = {"prompt": prompt, "chosen": [chosen], "rejected": source["rejected"][-1:]}
    for name, messages in expected.items():
        whole = f"{name} is the whole conversation, so the model would read the question twice. Keep the completion only"
        lost = "that is the last question alone. The system message or earlier turns are lost"
        equal(row[name], messages, f"{where}, {name}", {whole: source[name], lost: prompt[-1:]})


def check_messages(row, where: str) -> None:
    """A row as TRL takes it."""
    wanted = "the columns prompt, chosen and rejected and no others, each a list of messages, even if it is only one"
    columns = isinstance(row, dict) and set(row) == {"prompt", "chosen", "rejected"} and row.values()
    expect(columns and all(map(_is_conversation, columns)), wanted, row, where)


def _is_conversation(value) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)
