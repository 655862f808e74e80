"""Reading ratings out of a judge's reply, for models that only write text.

The reply is cut into blocks at its headings ("Text 1", in many spellings) and each block is read on its own, so that a
preamble, a missing block or a second paragraph never moves a rating to another text. Where a reply is unclear there is
no rating, but a reason.
"""

import re
from collections.abc import Sequence
from typing import Any

# One character for one character, so that places found in the plain reply hold in the reply as it was written.
PLAIN = str.maketrans("０１２３４５６７８９：／．，＝（）＃｜＊*_`", "0123456789:/.,=()#|    ")

# How a line may begin before its label: bullets, headings, brackets, "1."; not ">", which marks a quotation. All
# repetitions have a limit, or a reply of 20,000 spaces would take minutes.
MARK = r"^[^\w\n>]{0,20}(?:\d{1,2}[.)][^\w\n>]{0,9})?"
TEXT = r"(?:text|output|response|completion|answer|reply|テキスト|出力|回答|応答)"
RATING_LABEL = (
    r"(?:(?:overall|final|my|the)[ \t]{1,3}){0,2}(?:ratings?|scores?|grade|総合評価|評価点?|評点|スコア|点数|採点)"
    r"(?:[ \t]?\([^()\n]{0,40}\))?"
)
RATIONALE_LABEL = (
    r"(?:rationales?|reason(?:ing|s)?|explanations?|justification|feedback|comments?|(?:評価)?(?:理由|根拠)|説明|コメント)"
)

# A heading ends its line, or is set off from what follows: "Text 1: 4", but not "Text 1 is the better one".
HEADING = re.compile(
    MARK + r"(?:[a-z]{3,12} (?:for|of|on) )?(?:the )?" + TEXT + r"[ \t]?[#(]?[ \t]?(\d{1,4})(?!\d)"
    r"(?:の(?:出力|評価|回答))?(?=[^\w\n]{0,10}$|[\]】」』>]|[\"')]{0,2}[ \t]{0,5}[:|(\[=→]|[ \t]{0,5}[-–—][ \t]"
    r"|(?:'s)?[ \t]{1,5}(?:rating|score|評価|スコア))",
    re.I | re.M,
)
NUMBERED = re.compile(
    r"^[^\w\n>]{0,9}(\d{1,2})[ \t]?[.):|][ \t|]{0,9}(?=[^\w\n]{0,9}(?:\d|poor\b|weak\b|fair\b|good\b|excellent\b))", re.I | re.M
)
NUMBERED_RATING = re.compile(rf"^[^\w\n>]{{0,9}}(\d{{1,2}})[.):|][^\w\n>]{{0,9}}(?={RATING_LABEL})", re.I | re.M)
RATING = re.compile(
    rf"(?:{MARK}|(?<='s )){RATING_LABEL}[ \t\"'\])】]{{0,9}}(?:[:=|]|は|is\b|[-–—→][ \t]|(?=[ \t]{{0,3}}[-+]?\d))"
    r"\s{0,9}(.*)$",
    re.I | re.M,
)
RATIONALE = re.compile(
    rf"(?:{MARK}{RATIONALE_LABEL}|\brationale)[ \t\"'\])】]{{0,9}}(?:[:=|]|は、?|[-–—][ \t])\s{{0,9}}", re.I | re.M
)
THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.S)

LEAD = r"[^\w\n+-]{0,9}(?:-[ \t])?[^\w\n+-]{0,3}"
NUMBER = re.compile(
    LEAD + r"(?:(?:about|around|roughly|a)[ \t])?(?:5[ \t]?(?:段階|点満点|点)中の?)?([-+]?\d+(?:[.,]\d+)?)[ \t]?点?"
    r"(?:[ \t]?(?:/|out of|of)[ \t]?(\d+(?:\.\d+)?))?([ \t]?%)?(?![a-z]|[.,]?\d)",
    re.I,
)
RANGE = re.compile(LEAD + r"\d(?:\.\d+)?(?:[ \t]?[~〜][ \t]?|[-–—]|[ \t](?:to|or|and)[ \t])\d", re.I)
SCALES = ("poor weak fair good excellent", "one two three four five")
WORDS = {word: float(value) for scale in SCALES for value, word in enumerate(scale.split(), start=1)}
WORD = re.compile(
    LEAD + r"(?:very[ \t])?(" + "|".join(WORDS) + r")\b(?:[ \t]out of[ \t](?:five|5)\b)?(?![/-]\w|[ \t](?:to|or|of|out)\b)",
    re.I,
)
STARS = re.compile(r"[ \t(\[]{0,9}([★⭐]{1,5})[☆]{0,4}")
# After a rating without a label: the end of the line, or what sets it off from words.
ALONE = re.compile(r"[ \t]{0,3}(?:stars?\b)?[ \t]{0,3}(?:[.)\]]{0,3}[ \t]{0,3}$|[-–—][ \t]|\)?:|[(\[|])", re.I | re.M)
ALONE_AT_HEADING = re.compile(ALONE.pattern + r"|[.,;]", re.I | re.M)

LEFTOVERS = "|:;,.)]-–—* \t\n"  # between a rating and words that follow it


def parse_ratings(reply: str | None, count: int, shown: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One entry per rated text, in order, whatever the reply looks like.

    Args:
        reply: the judge's text, or None.
        count: how many texts were shown.
        shown: these texts. Where the reply repeats one whole, that part is not read.

    Returns:
        `count` dicts `{"rating": float in 1-5 | None, "rationale": str | None, "reason": str | None, "distribution": None}`;
        `reason` says why a rating is None: `no reply`, `missing block`, `no rating`, `off the scale: …`, `unclear: …`,
        `contradicting ratings: …` (two blocks for one text), `2 ratings without headings for 3 texts`.
    """
    reply = _own_words(reply or "", shown)
    if not reply.strip() or not count:
        return [_entry(reason="no reply") for _ in range(count)]
    plain = reply.translate(PLAIN)
    spans, fault = _spans(plain, count)
    found: dict[int, list[dict[str, Any]]] = {}
    for number, start, end in spans:
        found.setdefault(number, []).append(_read(plain[start:end], reply[start:end], headed=start > 0))
    return [_one_of(found.get(number, []), fault or "missing block") for number in range(1, count + 1)]


def _own_words(reply: str, shown: Sequence[str]) -> str:
    """`reply` without thoughts and without whole texts that it repeats; short ones only with the tag from our prompt."""
    reply = THOUGHTS.sub("", reply, count=1) if THOUGHTS.match(reply) else reply
    for number, text in enumerate(shown, start=1):
        reply = reply.replace(f"<text {number}>\n{text}", "")
        if len(text) >= 60:
            reply = reply.replace(text.strip(), " ")
    return reply


def _spans(plain: str, count: int) -> tuple[list[tuple[int, int, int]], str | None]:
    """`(number of the text, start, end)` for each block, and why there are none."""
    ratings = [said for said in RATING.finditer(plain) if _value(said[1])[2]]
    numbered = list(NUMBERED_RATING.finditer(plain))
    heads = list(HEADING.finditer(plain))
    if not heads and len(numbered) == len(ratings):
        heads = numbered or list(NUMBERED.finditer(plain))
    if heads:
        return _between([int(head[1]) for head in heads], heads, len(plain)), None
    if count == 1:
        return [(1, 0, len(plain))], None
    if len(ratings) != count:
        # Which text has none cannot be told, so no rating is given to any.
        return [], f"{len(ratings)} ratings without headings for {count} texts" if ratings else "no rating"
    labels = list(RATIONALE.finditer(plain))
    rationale_first = len(labels) == count and labels[0].start() < ratings[0].start()
    return _between(range(1, count + 1), labels if rationale_first else ratings, len(plain), after=False), None


def _between(numbers: Sequence[int], marks: list[re.Match], end: int, after: bool = True) -> list[tuple[int, int, int]]:
    """Blocks from each mark (from behind it if `after`) to the next."""
    starts = [mark.end() if after else mark.start() for mark in marks]
    ends = [mark.start() for mark in marks[1:]] + [end]
    return list(zip(numbers, starts, ends, strict=True))


def _one_of(blocks: list[dict[str, Any]], missing: str) -> dict[str, Any]:
    """The block that counts. Two that disagree, such as a quoted one and the judge's own, give no rating."""
    if not blocks:
        return _entry(reason=missing)
    stated = [block for block in blocks if block["reason"] != "no rating"]
    values = {block["rating"]: block["reason"] or f"{block['rating']:g}" for block in stated}
    best = (stated or blocks)[0]
    why = next((block["rationale"] for block in [best, *blocks] if block["rationale"]), None)
    if len(values) > 1:
        return _entry(None, why, f"contradicting ratings: {', '.join(values.values())}")
    return {**best, "rationale": why}


def _read(plain: str, raw: str, headed: bool) -> dict[str, Any]:
    """A block's rating and rationale; `headed`: it begins beside its heading."""
    ratings, label = list(RATING.finditer(plain)), RATIONALE.search(plain)
    if not ratings:
        value, reason, end = _unlabelled(plain, headed)
        return _entry(value, _tidy(raw[label.end() :] if label else raw[end:].lstrip(LEFTOVERS)), reason)
    # A rating comes first and the rationale may quote others, or it comes last and the rationale before it may.
    rating_first = not label or ratings[0].start() < label.start()
    said = ratings[0] if rating_first else ratings[-1]
    value, reason, length = _value(said[1])
    if label:
        return _entry(value, _tidy(raw[label.end() : len(raw) if rating_first else said.start()]), reason)
    behind = raw[said.start(1) + length :].lstrip(LEFTOVERS)
    return _entry(value, _tidy(behind) or _tidy(raw[: said.start()]), reason)


def _unlabelled(plain: str, headed: bool) -> tuple[float | None, str | None, int]:
    """A rating without a label: beside the heading, or at the beginning of the first line after it."""
    first, *rest = plain.split("\n", 1)
    beside = headed and bool(re.search(r"[\w★⭐]", first))
    line = first if re.search(r"[\w★⭐]", first) or not rest else rest[0].lstrip().split("\n", 1)[0]
    start = plain.index(line)
    value, reason, length = _value(line)
    set_off = (ALONE_AT_HEADING if beside else ALONE).match(line, length)
    return (value, reason, start + length) if length and set_off else (None, "no rating", 0)


def _value(text: str) -> tuple[float | None, str | None, int]:
    """The rating at the beginning of `text`, why there is none, and the length of what was read."""
    number, word, stars, between = (pattern.match(text) for pattern in (NUMBER, WORD, STARS, RANGE))
    if between:
        return None, f"unclear: {between[0].strip()[:40]}", between.end()
    if word:
        return WORDS[word[1].lower()], None, word.end()
    if stars:
        return float(len(stars[1])), None, stars.end()
    if not number:
        return None, "no rating", 0
    value = float(number[1].replace(",", "."))
    thousands = re.search(r",\d{3}$", number[1])
    if not 1 <= value <= 5 or thousands or number[3] or (number[2] and float(number[2]) != 5):
        return None, f"off the scale: {number[0].strip()[:40]}", number.end()
    return value, None, number.end()


def _tidy(text: str) -> str | None:
    """A rationale without the marks around it; a word of the scale alone, such as "(Good)", is none."""
    text = text.strip().rstrip("| \t\n")
    text = text.removesuffix("**") if text.count("**") % 2 else text
    word = re.fullmatch(r"\W*(?:" + "|".join(WORDS) + r")\W*", text, re.I)
    return None if word or not re.search(r"\w", text) else text


def _entry(rating: float | None = None, rationale: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"rating": rating, "rationale": rationale, "reason": reason, "distribution": None}
