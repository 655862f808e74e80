"""Reading ratings out of a judge's reply, for models that only write text.

The reply is cut at the headings that the prompt asks for ("#### Text 1") and each block is read on its own, so that a
preamble, a missing block or a second paragraph never moves a rating to another text. Common slips are read too: bold
marks, "4/5", "4 (Good)", a word of the scale, no headings but one rating for each text in order. Whatever is unclear
or contradicts itself has no rating, but a reason.
"""

import re
from collections.abc import Sequence
from typing import Any

from course_lib.llms.prompts import encodable

# One character for one character, so that a place in the plain reply is the same place in the reply as written.
PLAIN = str.maketrans("０１２３４５６７８９：／．，＝（）％～−–－‐‑⁄∕＊*_`", "0123456789:/.,=()%~-----//    ")
STEPS = ("poor weak fair good excellent", "one two three four five")
WORDS = {word: float(step) for words in STEPS for step, word in enumerate(words.split(), start=1)}

# All repetitions have a limit, or a reply of 20,000 spaces would take minutes. ">" marks a quotation.
MARK = r"^[^\w\n>]{0,20}"
HEADING = re.compile(
    MARK + r"(?:\d{1,2}[.)][^\w\n>]{0,9})?(?:[a-z]{3,12} for )?<?text[ \t#]{1,3}(\d{1,4})"
    r"(?=[^\w\n]{0,10}$|>|\]|[ \t]{0,5}[:(=]|[ \t]{1,5}-[ \t])",
    re.I | re.M,
)
RATING = re.compile(
    MARK + r"(?:[a-z]{1,12}[ \t]{1,3}){0,2}(?:rating|score)[^\w\n:=]{0,9}[:=](?P<value>.*)$", re.I | re.M
)
RATIONALE = re.compile(MARK + r"(?:rationale|reason|explanation)[^\w\n:]{0,9}:\s{0,9}", re.I | re.M)
MENTION = re.compile(r"\btext[ \t#]{0,3}\d|\b(?:first|second|third|fourth|fifth)\b", re.I)

NUMBER = r"[-+]?\d+(?:[.,]\d+)?"
STEP = rf"(?:(?P<number>{NUMBER})|(?:very[ \t])?(?P<word>{'|'.join(WORDS)})\b)"
UNIT = r"(?:[ \t]?(?:points?|stars?)\b)?"
SCALE = r"(?P<scale>[ \t]{0,5}(?:/|\(?(?:out[ \t])?of\b)[ \t]{0,5}(?P<top>\w+(?:\.\d+)?)?|[ \t]?%|[ \t]percent\b)?"
VALUE = re.compile(rf"[^\w\n+\-/<>|≥≤±~]{{0,9}}{STEP}{UNIT}{SCALE}", re.I)
AGAIN = re.compile(rf"[^\w\n+]{{1,5}}{STEP}(?:/5)?(?=[^\w\n]{{0,5}}$)", re.I)
CLOSED = re.compile(r"[ \t\"']{0,9}(?:(?![.,:-]{1,4}\d)[.,;:)\]|(-]|[—…](?!\d)|$)")
OTHER_SCALE = re.compile(r"\d|scale|out of|\bmax|-point|percent|hundred|thousand", re.I)
BROKEN = re.compile(
    r"\s{0,9}\n[ \t]{0,9}(?=\(?(?:/|out of)\W{0,3}\d)", re.I
)  # "4" and "/10" on the next line

Value = tuple[float | None, str | None, int]  # the rating, or why there is none; the length of what was read


def parse_ratings(reply: str | None, count: int, shown: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One entry per rated text, in order, whatever the reply looks like.

    Args:
        reply: the judge's text, or None.
        count: how many texts the judge was given.
        shown: these texts. Where the reply repeats one whole, that part is not read.

    Returns:
        `count` dicts `{"rating": float in 1-5 | None, "rationale": str | None, "reason": str | None,
        "distribution": None}`; `reason` says why a rating is None: `no reply`, `missing block`, `no rating`,
        `off the scale: …`, `unclear: …`, `contradicting ratings: …` (for one text), or why none of the texts has one:
        `2 ratings without headings for 3 texts`, `headings without the numbers of the texts`, `headings count from 0`.
    """
    reply = BROKEN.sub(" ", _own_words(reply or "", shown).replace("\r\n", "\n"))
    if not reply.strip() or not count:
        return [entry(reason="no reply") for _ in range(count)]
    plain = reply.translate(PLAIN)
    blocks, fault = _blocks(plain, count)
    readings: dict[int, list[dict[str, Any]]] = {}
    for number, start, end in blocks:
        readings.setdefault(number, []).append(_reading(plain[start:end], reply[start:end], headed=start > 0))
    return [_merged(readings.get(number, []), fault or "missing block") for number in range(1, count + 1)]


def entry(rating=None, rationale=None, reason=None, distribution=None) -> dict[str, Any]:
    return {"rating": rating, "rationale": rationale, "reason": reason, "distribution": distribution}


def _own_words(reply: str, shown: Sequence[str]) -> str:
    """`reply` without thoughts and repeated texts; of short texts only what has the tag of our prompt before it."""
    texts = [encodable(text) for text in shown]  # as the prompt holds them
    parts = [f"<text {number}>\n{text}" for number, text in enumerate(texts, start=1)]
    parts += [text.strip() for text in texts if len(text.strip()) >= 60]
    reply = re.sub(r"\A\s*<think>.*?</think>", "", reply, flags=re.S)
    for part in sorted(parts, key=len, reverse=True):  # one text may hold another
        reply = reply.replace(part, " ")
    return reply


def _blocks(plain: str, count: int) -> tuple[list[tuple[int, int, int]], str | None]:
    """`(number of the text, start, end)` of each block, or why there are none."""
    headings, ratings = list(HEADING.finditer(plain)), list(RATING.finditer(plain))
    numbers = [int(heading[1]) for heading in headings]
    if 0 in numbers:
        return [], "headings count from 0"
    if not headings and count == 1:
        return [(1, 0, len(plain))], None
    if not headings and len(ratings) != count:
        return [], f"{len(ratings)} ratings without headings for {count} texts" if ratings else "no rating"
    if not headings and _names_texts(plain, ratings):
        return [], "headings without the numbers of the texts"
    marks = headings or ratings
    starts = [mark.end() if headings else mark.start() for mark in marks]
    ends = [*(mark.start() for mark in marks[1:]), len(plain)]
    return list(zip(numbers or range(1, count + 1), starts, ends, strict=True)), None


def _names_texts(plain: str, ratings: list[re.Match]) -> bool:
    """Whether lines around the ratings may say whose they are: "Candidate B", "The second text is worse."."""
    starts = [0, *(rating.end() for rating in ratings)]
    gaps = [plain[start : rating.start()] for start, rating in zip(starts, ratings, strict=False)]
    lines = [line.strip("\"')]} \t") for gap in gaps[1:] for line in gap.splitlines()]
    titles = [line for line in lines if re.search(r"\w", line) and len(line) <= 60 and line[-1] not in ".!?"]
    return any(MENTION.search(gap) for gap in gaps) or any(not RATIONALE.match(title) for title in titles)


def _merged(readings: list[dict[str, Any]], missing: str) -> dict[str, Any]:
    """The reading that counts. Two that disagree, such as a quoted one and the judge's own, give no rating."""
    stated = [reading for reading in readings if reading["reason"] != "no rating"]
    first = next(iter(stated or readings), entry(reason=missing))
    rationale = next((reading["rationale"] for reading in [first, *readings] if reading["rationale"]), None)
    rating, reason = _agreed([(reading["rating"], reading["reason"]) for reading in stated or [first]])
    return entry(rating, rationale, reason)


def _agreed(values: list[tuple[float | None, str | None]]) -> tuple[float | None, str | None]:
    different = dict.fromkeys(reason or f"{rating:g}" for rating, reason in values)
    return values[0] if len(different) == 1 else (None, f"contradicting ratings: {', '.join(different)}")


def _reading(plain: str, raw: str, headed: bool) -> dict[str, Any]:
    """A block's rating and rationale; `headed`: it begins beside its heading."""
    ratings, label = list(RATING.finditer(plain)), RATIONALE.search(plain)
    values = [(rating.start("value"), *read_value(rating["value"])) for rating in ratings]
    if not ratings:
        line = re.search(r"^.*\w.*$|\Z", plain, re.M)
        values = [(line.start(), *read_value(line[0], beside=headed and line.start() == 0))]
    rating, reason = _agreed([value[1:3] for value in values])
    if not ratings and not rating:
        reason = "no rating"
    start, end = values[0][0] + values[0][3], len(raw)
    if label:
        start, end = (
            label.end(),
            ratings[0].start() if ratings and label.start() < ratings[0].start() else end,
        )
    return entry(rating, _tidy(raw[start:end]), reason)


def read_value(line: str, beside: bool = True) -> Value:
    """The rating at the beginning of `line`; not `beside` a label or heading, "1. Clear" is an item of a list."""
    value = VALUE.match(line)
    if not value:
        return None, "no rating", 0
    rest, rating, end = line[value.end() :], _step(value), value.end()
    if rating is None or (value["scale"] and (value["top"] or "").lower() not in ("5", "5.0", "five")):
        return None, f"off the scale: {value[0].strip()[:40]}", end
    clause = re.split(r"[|;]|\.(?!\d)", rest, maxsplit=1)[0]
    again = AGAIN.match(clause)
    closed = CLOSED.match(rest) and (beside or not re.match(r"[.)][ \t]*\w", rest))
    agrees = (
        abs((_step(again) or 0) - rating) < (1 if again["word"] else 0.01)
        if again
        else not re.search(r"\d/\d" if value["scale"] else OTHER_SCALE, clause)
    )
    return (rating, None, end) if closed and agrees else (None, f"unclear: {line.strip()[:40]}", end)


def _step(value: re.Match) -> float | None:
    if value["word"]:
        return WORDS[value["word"].lower()]
    number = float(value["number"].replace(",", "."))
    return number if 1 <= number <= 5 and not re.search(r",\d{3}$", value["number"]) else None


def _tidy(text: str) -> str | None:
    """A rationale without the marks around it."""
    text = text.strip().lstrip("|:;,.)]-–—* \t\n").rstrip("| \t\n")
    text = text.removesuffix("**") if text.count("**") % 2 else text
    return (
        text
        if re.search(r"\w", text) and not re.fullmatch(rf"\W*(?:{'|'.join(WORDS)})\W*\)", text, re.I)
        else None
    )
