"""A split into train and test: whether a learner's function loses no row, leaks no prompt and stays the same."""

from types import CodeType, FunctionType
from unittest.mock import patch

from course_lib.exercises.checks import call, expect, is_pair, require
from course_lib.exercises.faults import bare

SHARES = (0.1, 0.3)
PROMPTS = 300


def check_split(answer) -> None:
    """Raise `Wrong` unless the learner's function puts each prompt on one side, by the prompt alone."""
    rows = _rows_about(PROMPTS)
    elsewhere = "in another process, where Python's hash() of a text differs (hashlib's are the same)"
    salted = f"__hash__ of a text is another number {elsewhere}. Use hashlib."
    require("__hash__" not in _names(answer, {}), salted)
    changed = {
        "called a second time with the same rows": (rows, hash),
        "with the rows in another order": (rows[::-1], hash),
        f"with {PROMPTS // 2} prompts added": (_rows_about(PROMPTS * 3 // 2), hash),
        elsewhere: (rows, lambda value: (value, "another process").__hash__()),
    }
    for share in SHARES:
        test = _test_prompts(answer, rows, share)
        percent = f"{len(test) / PROMPTS:.0%} of {PROMPTS} prompts are in test; expected about {share:.0%}."
        turned = abs(len(test) / PROMPTS - (1 - share)) < 0.1
        require(not turned, f"{percent} It looks as if you returned (test, train).")
        require(abs(len(test) / PROMPTS - share) < 0.1, percent)
        for words, (others, other_hash) in changed.items():
            with patch("builtins.hash", other_hash):
                moved = len(test - _test_prompts(answer, others, share))
            lost = f"{moved} of {len(test)} test prompts are no longer in test {words}."
            require(not moved, f"{lost} Let the prompt alone decide.")


def _names(function, seen: dict) -> set[str]:
    """The names that a function uses, with those in the functions that it calls."""
    if not isinstance(function, FunctionType) or function in seen:
        return set()
    seen[function] = True
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names.union(*(_names(function.__globals__.get(name), seen) for name in names))


def _rows_about(prompts: int) -> list[dict]:
    """Up to three rows for each prompt, which is spelled otherwise in each."""
    spellings = enumerate([str.strip, str.upper, lambda text: text.replace(" ", "  ")])
    numbers = [(k, n, spell) for n, spell in spellings for k in range(prompts) if n <= k % 3]
    texts = {f"{k}-{n}": spell(f"What is {k} times {k % 7 + 2}?") for k, n, spell in numbers}
    return [{"id": id_, "prompt": text, "chosen": id_, "rejected": "?"} for id_, text in texts.items()]


def _test_prompts(answer, rows: list[dict], share: float) -> set[str]:
    """The prompts that went to test, once it is clear that each row is in one part and each prompt on one side."""
    parts = call(answer, rows, share)
    two = is_pair(parts) and all(isinstance(part, list | tuple) for part in parts)
    expect(two, "(train, test), two lists of rows", parts)
    split, known = [*parts[0], *parts[1]], {row["id"]: row for row in rows}
    strange = [row for row in split if not isinstance(row, dict) or known.get(row.get("id")) != row]
    expect(not strange, "the rows themselves in train and test, as they went in", strange[:1])
    ids = {row["id"] for row in split}
    twice, lost = len(split) - len(ids), len(rows) - len(ids)
    require(not twice, f"{twice} rows came out twice. Each row belongs in train or in test.")
    require(not lost, f"{lost} of {len(rows)} rows are in neither part. A split loses no row.")
    train, test = ({bare(row["prompt"]) for row in part} for part in parts)
    both = sorted(train & test)
    leak = f"{len(both)} prompts are in train and in test, up to case and spaces, for example {both[:1]}"
    require(not both, f"{leak}. The prompt must decide, not the row.")
    return test
