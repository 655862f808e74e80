"""Reading ratings out of a judge's reply, for models that only write text.

The reply must have the form that the prompt asks for, a heading for each text and its rating on the next line:

    #### Text 1
    Rating: 4
    Rationale: Right, but terse.

Common slips are read too: bold marks, "4/5", "4 (Good)", words before the first heading, a rationale of several
paragraphs. Anything else is no rating but a reason, and so is whatever contradicts itself or may be quoted from a text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from course_lib.llms.prompts import encodable

# ">" would mark a quotation. All repetitions have a limit, or a long reply of spaces would take minutes.
MARK = r"^[-#*_ \t]{0,20}"
HEADING = re.compile(MARK + r"(?:output for )?text[ #]{1,3}(\d{1,4})[*_: \t]{0,10}$", re.I | re.M)
RATING = re.compile(MARK + r"rating[*_ ]{0,9}:(.*(?:\n[ \t]{0,9}\(?(?:/|out of).*)?)$", re.I | re.M)
RATIONALE = re.compile(MARK + r"rationale[*_ ]{0,9}:[*_]{0,3}", re.I | re.M)
# A rating stated once more, "Final rating: 3" or "Overall score (1-5): 3", and one in a summary, "Text 2: 3".
AGAIN = re.compile(MARK + r"(?:[\w']{1,12} ){0,4}(?:rating|score)s?\b[^:=\n]{0,20}[:=](.*)$", re.I | re.M)
SUMMARY = re.compile(MARK + r"text[ #]{1,3}(\d{1,4})[^\w\n]{1,9}(\d.*)$", re.I | re.M)
# What a text says of a rating, and may be quoted: of a text, and of nobody.
QUOTABLE = re.compile(r"text\W{0,3}(\d{1,4})(?:[^\d>]|\n>){1,60}?(\d(?:[.,]\d)?)", re.I)
LONE = re.compile(r"(?:rating|score)\W{0,9}(\d(?:[.,]\d)?)", re.I)
OTHER_SCALE = re.compile(r"\bscale\b[^.\n]{0,30}\b(?:[06-9]|\d\d+|zero|six|seven|ten|hundred)\b", re.I)
THOUGHTS = r"\A\s*<think>.*?</think>"
WORDS = ["poor", "weak", "fair", "good", "excellent"]
SCALE = r"(?P<scale>\s*%|\s*(?:/|out of)\s*(?P<top>\d+))?"
VALUE = re.compile(
    rf"(?P<number>-?\d+(?:[.,]\d{{1,2}})?){SCALE}(?:\s*\((?:very )?(?P<word>{'|'.join(WORDS)})\))?", re.I
)


class Block(NamedTuple):
    """What stands under one heading: each rating stated there, or why it is none, and the rationale."""

    number: int
    ratings: list[float | str]
    rationale: str | None


def parse_ratings(reply: str | None, count: int, shown: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One entry per rated text, in order, whatever the reply looks like.

    Args:
        reply: the judge's text, or None.
        count: how many texts the judge was given.
        shown: these texts. Where the reply repeats one whole, that part is not read.

    Returns:
        `count` dicts `{"rating": float in 1-5 | None, "rationale": str | None, "reason": str | None}`; the reason for
        None is `no reply`, `missing block`, `no rating`, `off the scale: …`, `unclear: …`, `contradicting ratings: …`,
        `may be quoted from a text`, `2 ratings without headings for 3 texts`, `headings count from 0`,
        `a rating above the first heading` or `another scale`.
    """
    own = _own_words(reply or "", shown)
    blocks = list(_blocks(own, count))
    fault = _fault(own, blocks, count)
    # Where a text poses as a rating, headings in another order may be quoted from it.
    numbers = [block.number for block in blocks]
    in_order = numbers == sorted(set(numbers))
    summary = [(int(line[1]), _value(line[2])) for line in SUMMARY.finditer(own)]
    quotable = {pair for text in shown for pair in _quotable(text, count)}
    in_order |= not any(pattern.search(text) for text in shown for pattern in (LONE, HEADING))
    entries = []
    for number in range(1, count + 1):
        mine = [block for block in blocks if block.number == number]
        stated = [rating for block in mine for rating in block.ratings if rating != "no rating"]
        different = list(dict.fromkeys([*stated, *(rating for n, rating in summary if n == number)]))
        if fault or not stated:
            reason = fault or ("no rating" if mine else "missing block")
        elif len(different) > 1:
            reason = f"contradicting ratings: {', '.join(map(_brief, different))}"
        elif (number, different[0]) in quotable or not in_order:
            reason = "may be quoted from a text"
        else:
            reason = different[0] if isinstance(different[0], str) else None
        rationale = next((block.rationale for block in mine if block.rationale), None)
        entries.append({"rating": None if reason else different[0], "rationale": rationale, "reason": reason})
    return entries


def ratings_schema(count: int, explained: bool) -> dict[str, Any]:
    """The JSON schema of a reply that rates `count` texts, `text_1` and so on, with rationales if `explained`."""
    block = {"rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}
    block |= {"rationale": {"type": "string"}} if explained else {}
    return _object({f"text_{number}": _object(block) for number in range(1, count + 1)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **required}


def read_ratings(
    reply: str | None, schema: dict[str, Any], shown: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """As `parse_ratings`, of a reply that should be JSON after `ratings_schema`; the reply may still be against it.

    The reason for None is `no reply`, `no JSON`, `against the schema: …` or `may be quoted from a text`.
    """
    own, blocks, answer, fault = re.sub(THOUGHTS, "", reply or "", flags=re.S), schema["properties"], {}, None
    try:
        answer = json.loads(own, object_pairs_hook=_unrepeated)
        if not isinstance(answer, dict) or set(answer) != set(blocks):
            answer, fault = {}, f"against the schema: {own.strip()[:40]}"
    except (ValueError, RecursionError):
        fault = "no JSON" if own.strip() else "no reply"
    if not fault and any("".join(own.split()) in "".join(text.split()) for text in shown):
        fault = "may be quoted from a text"
    return [_entry(answer.get(name), block, fault) for name, block in blocks.items()]


def _entry(block: Any, schema: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """The rating and the rationale under one key of a reply in JSON."""
    whole = isinstance(block, dict) and set(block) == set(schema["properties"])
    rating, rationale = (block["rating"], block.get("rationale", "")) if whole else (None, "")
    if not fault and not (type(rating) is int and 1 <= rating <= 5 and isinstance(rationale, str)):
        fault = f"against the schema: {json.dumps(block)[:40]}"
    rated = (
        {"rating": None, "rationale": None}
        if fault
        else {"rating": float(rating), "rationale": rationale or None}
    )
    return {**rated, "reason": fault}


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _fault(reply: str, blocks: list[Block], count: int) -> str | None:
    """Why no text can have a rating, whatever the blocks say."""
    numbers, ratings = [block.number for block in blocks], len(RATING.findall(reply))
    if not blocks:
        unread = f"{ratings} rating{'s' * (ratings > 1)} without headings for {count} texts"
        return (unread if ratings else "no rating") if reply.strip() else "no reply"
    if min(numbers) == 0 or (min(numbers) > 1 and max(numbers) > count):
        return f"headings count from {min(numbers)}"
    above = reply[: first.start()] if (first := HEADING.search(reply)) else ""
    if any(_value(line[1]) != "no rating" for line in AGAIN.finditer(above)):
        return "a rating above the first heading"  # its heading may be the one below
    return "another scale" if OTHER_SCALE.search(above) else None


def _quotable(text: str, count: int) -> Iterator[tuple[int, float]]:
    """The ratings that `text` gives to texts, in whatever form."""
    lone = [("1", rating) for rating in LONE.findall(text) if count == 1]
    for number, rating in [*QUOTABLE.findall(text), *lone]:
        yield int(number), float(rating.replace(",", "."))


def _brief(rating: float | str) -> str:
    return rating if isinstance(rating, str) else f"{rating:g}"


def _own_words(reply: str, shown: Sequence[str]) -> str:
    """`reply` without thoughts and repeated texts; of short texts only what has the tag of our prompt before it."""
    texts = [encodable(text) for text in shown]  # as the prompt holds them
    parts = [f"<text {number}>\n{text}" for number, text in enumerate(texts, start=1)]
    parts += [text.strip() for text in texts if len(text.strip()) >= 60]
    reply = re.sub(THOUGHTS, "", reply.replace("\r\n", "\n"), flags=re.S)
    for part in sorted(parts, key=len, reverse=True):  # one text may hold another
        reply = reply.replace(part, " ")
    return reply


def _blocks(reply: str, count: int) -> Iterator[Block]:
    """The blocks of `reply`. One text alone needs no heading."""
    headings = list(HEADING.finditer(reply))
    if not headings and count == 1 and (rating := RATING.search(reply)):
        yield _block(1, reply[rating.start() :])
    ends = [*(heading.start() for heading in headings[1:]), len(reply)]
    for heading, end in zip(headings, ends, strict=False):
        yield _block(int(heading[1]), reply[heading.end() : end].strip())


def _block(number: int, text: str) -> Block:
    rating, label = RATING.match(text), RATIONALE.search(text)
    values = [_value(again[1]) for again in AGAIN.finditer(text, rating.end() if rating else 0)]
    others = [value for value in values if value != "no rating"]
    first = _value(rating[1]) if rating else "no rating"
    if first == "no rating" and others:
        first, others = f"unclear: {_brief(others[0])}, not below the heading", []
    rationale = text[label.end() :].strip() if label else None
    return Block(number, [first, *others], rationale or None)


def _value(text: str) -> float | str:
    """The rating that `text` is, or why it is none."""
    plain = re.sub(r"[*_`]", "", text).strip().removesuffix(".")
    value, brief = VALUE.fullmatch(plain), plain[:40]
    if not value:
        return f"unclear: {brief}" if re.search(r"\d", plain) else "no rating"
    number = float(value["number"].replace(",", "."))
    if not 1 <= number <= 5 or (value["scale"] and value["top"] != "5"):
        return f"off the scale: {brief}"
    agrees = not value["word"] or abs(WORDS.index(value["word"].lower()) + 1 - number) < 1
    return number if agrees else f"unclear: {brief}"
