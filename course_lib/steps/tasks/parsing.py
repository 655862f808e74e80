"""Reading ratings out of a judge's reply, for models that only write text.

The reply is cut into blocks at its headings ("Text 1", in many spellings) and each block is read on its own, so that a
preamble, a missing block or a second paragraph never moves a rating to another text. Where a reply is unclear there is
no rating, but a reason.
"""

import re
from collections.abc import Sequence
from typing import Any

from course_lib.llms.prompts import encodable
from course_lib.steps.tasks.values import PLAIN, STAR, WORDS, Value, is_scale, is_to_five, read_value

# How a line may begin before its label: bullets, headings, brackets, "1."; not ">", which marks a quotation. All
# repetitions have a limit, or a reply of 20,000 spaces would take minutes.
MARK = r"^[^\w\n>]{0,20}(?:\d{1,2}[.)][^\w\n>]{0,9})?"
TEXT = r"(?:text|output|response|completion|answer|reply|テキスト|文章|出力|回答|応答)"
FINAL = r"(?:final|overall|revised|corrected|updated|最終)"
RATING_LABEL = (
    rf"(?:(?:{FINAL}|my|the)[ \t]{{1,3}}){{0,2}}"
    r"(?:ratings?|scores?|grade|(?:総合|最終)?(?:評価[値点]?|評点|得点|スコア|点数|採点|レーティング)(?:結果)?)"
)
SCALE = r"(?:[ \t]?\((?P<scale>[^()\n]{0,40})\))?"
RATIONALE_LABEL = (
    r"(?:rationales?|reason(?:ing|s)?|explanations?|justification|feedback|comments?"
    r"|(?:評価の?)?(?:理由|根拠)|総評|説明|コメント)"
)

# A heading ends its line, or is set off from what follows: "Text 1: 4", but not "Text 1 is the better one".
HEADING = re.compile(
    MARK + r"(?:[a-z]{3,12} (?:for|of|on) )?(?:the )?" + TEXT + r"[ \t]?[#(]?[ \t]?(\d{1,4})(?:の(?:出力|回答)?)?"
    r"(?=[^\w\n]{0,10}$|[\]】」』>]|[\"')]{0,2}[ \t]{0,5}[:|(\[=→]|[ \t]{0,5}[-—][ \t]"
    rf"|(?:'s)?[ \t]{{0,5}}{RATING_LABEL})",
    re.I | re.M,
)
NUMBERED = re.compile(
    r"^[^\w\n>]{0,9}(\d{1,2})[ \t]?[.):|][ \t|]{0,9}(?=[^\w\n]{0,9}(?:\d|(?:" + "|".join(WORDS) + r")\b))", re.I | re.M
)
NUMBERED_RATING = re.compile(rf"^[^\w\n>]{{0,9}}(\d{{1,2}})[.):|][^\w\n>]{{0,9}}(?={RATING_LABEL})", re.I | re.M)

# A heading of another name, "Candidate B" or "2nd": its number or letter, and the words around it.
COUNTED = (
    "a b c d e f g h i j",
    "one two three four five six seven eight nine ten",
    "first second third fourth fifth sixth seventh eighth ninth tenth",
)
ORDINALS = {word: value for words in COUNTED for value, word in enumerate(words.split(), start=1)}
ORDINAL = rf"(?:\d{{1,4}}(?:[snrt][tdh])?(?![a-z\d])|(?<!\w)(?:{'|'.join(ORDINALS)})(?!\w))"
TITLE = re.compile(
    MARK + r"(?P<before>(?:[^\W\d]{1,20}[^\w\n]{1,4}){0,3}[^\W\d]{0,20})"
    rf"(?P<number>{ORDINAL})(?P<after>(?:[ \t]?[^\W\d]{{1,20}}){{0,2}})"
    r"(?=[^\w\n]{0,10}$|[ \t]{0,3}[:(\[|→]|[ \t]{1,3}[-—][ \t])",
    re.I | re.M,
)
MENTION = re.compile(rf"{MARK}(?:the )?(?:{TEXT}[ \t#(]{{0,3}}{ORDINAL}|{ORDINAL} {TEXT})", re.I | re.M)

# A value below its label and alone on its line, so that neither a numbered list nor prose is one.
BELOW = (
    rf"(?=\n\s{{0,9}}[^\w\n|>#]{{0,9}}(?:[{STAR}]|(?:\d+(?:[.,]\d+)?(?:[ \t]?(?:stars?|points?|点))?|{'|'.join(WORDS)})"
    r"[ \t]{0,3}(?:[/(\[,;。、—-]|(?:out[ \t])?of\b|[.)]?[ \t]{0,3}$)))"
)
RATING = re.compile(
    rf"(?:{MARK}|(?<='s )){RATING_LABEL}{SCALE}[ \t\"'\])】]{{0,9}}"
    r"(?:[:=|]|は|is\b|[-—→][ \t]|(?=[ \t]{0,3}[-+]?\d+(?!\d|[ \t]{0,3}[:=]))"
    rf"|{BELOW})\s{{0,9}}(?P<value>.*)$",
    re.I | re.M,
)
FINAL_RATING = re.compile(rf"{MARK}(?:(?:my|the)[ \t]{{1,3}})?{FINAL}", re.I)
RATIONALE = re.compile(
    rf"(?:{MARK}{RATIONALE_LABEL}[ \t\"'\])】]{{0,9}}$"
    rf"|(?:{MARK}{RATIONALE_LABEL}|\brationale)[ \t\"'\])】]{{0,9}}(?:[:=|]|は、?|[-—][ \t]))\s{{0,9}}",
    re.I | re.M,
)
BROKEN = re.compile(r"\s{0,9}\n[ \t]{0,9}(?=\(?(?:/|out of)\W{0,3}\d)", re.I)  # between "4" and "/10" on the next line
THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.S)
LABEL_TAG = re.compile(rf"<(/?)(?!ratings|scores)({RATING_LABEL}|{RATIONALE_LABEL})>", re.I)
MARKUP_TAG = re.compile(r"</?(?:b|strong|i|em|u|p|br|li|ul|ol|div|span|code|h[1-6])[ \t]?/?>", re.I)
CLOSING_TAGS = re.compile(r"(?:\s*</[\w ]{1,20}>)+\s*$")

# After a rating without a label: the end of the line, or what sets it off from words.
ALONE = re.compile(r"[ \t]{0,3}(?:stars?\b)?[ \t]{0,3}(?:[.)\]]{0,3}[ \t]{0,3}$|[-—][ \t]|\)?:|[(\[|])", re.I | re.M)
ALONE_AT_HEADING = re.compile(ALONE.pattern + r"|[.,;。、]", re.I | re.M)

# In a table: the headings of the column with ratings, and of that with the numbers of the texts.
RATING_COLUMN = re.compile(RATING_LABEL + SCALE, re.I)
NUMBER_COLUMN = re.compile(TEXT + r"s?|#|no\.?|number|id|番号|", re.I)

LEFTOVERS = "|:;,.)]。、-–—* \t\n"  # between a rating and words that follow it


def parse_ratings(reply: str | None, count: int, shown: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One entry per rated text, in order, whatever the reply looks like.

    Args:
        reply: the judge's text, or None.
        count: how many texts were shown.
        shown: these texts. Where the reply repeats one whole, that part is not read.

    Returns:
        `count` dicts `{"rating": float in 1-5 | None, "rationale": str | None, "reason": str | None, "distribution": None}`;
        `reason` says why a rating is None: `no reply`, `missing block`, `no rating`, `off the scale: …`, `unclear: …`,
        `contradicting ratings: …` (for one text), or why none of the texts has one: `2 ratings without headings for 3 texts`,
        `headings without the numbers of the texts`, `headings count from 0`, `the scale, not ratings`.
    """
    reply = _own_words(reply or "", shown)
    if not reply.strip() or not count:
        return [entry(reason="no reply") for _ in range(count)]
    reply = LABEL_TAG.sub(_as_label, _tables_in_order(BROKEN.sub(" ", reply)))
    plain = _plain(reply)
    spans, fault = _spans(plain, count)
    found: dict[int, list[dict[str, Any]]] = {}
    for number, start, end in spans:
        found.setdefault(number, []).append(_read(plain[start:end], reply[start:end], headed=start > 0))
    return [_one_of(found.get(number, []), fault or "missing block") for number in range(1, count + 1)]


def _own_words(reply: str, shown: Sequence[str]) -> str:
    """`reply` without thoughts and without whole texts that it repeats; short ones only with the tag from our prompt."""
    texts = [encodable(text) for text in shown]  # as the prompt holds them
    parts = [f"<text {number}>\n{text}" for number, text in enumerate(texts, start=1)]
    parts += [text.strip() for text in texts if len(text.strip()) >= 60]
    reply = THOUGHTS.sub("", reply)
    for part in sorted(parts, key=len, reverse=True):  # one text may hold another
        reply = reply.replace(part, " ")
    return reply


def _plain(reply: str) -> str:
    return MARKUP_TAG.sub(lambda tag: " " * len(tag[0]), reply.translate(PLAIN))


def _as_label(tag: re.Match) -> str:
    """`<rating>` as a line "rating:" of the same length; `</rating>` as the end of that line."""
    return "\n" + (" " * (len(tag[0]) - 1) if tag[1] else f"{tag[2]}:")


# --- tables -------------------------------------------------------------------------------------------------------


def _tables_in_order(reply: str) -> str:
    """`reply`, with the rating beside the number of the text in each row of a table that has a line of headings."""
    lines, header = [], None
    for line in reply.split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 2:
            header = None
        elif header and re.search(r"\d", cells[0]):
            line = _row(cells, header)
        elif re.search(r"\w", line) and not re.search(r"\d", cells[0]):
            header = cells
        lines.append(line)
    return "\n".join(lines)


def _row(cells: list[str], header: list[str]) -> str:
    """A row from its number to its rating; nothing if the headings do not say which columns these are."""
    names = [name.translate(PLAIN).strip() for name in header]
    found = [RATING_COLUMN.fullmatch(name) for name in names]
    place = next((i for i, name in enumerate(found) if name and is_to_five(name["scale"])), len(cells))
    numbers = [i for i, name in enumerate(names[:place]) if place == 1 or NUMBER_COLUMN.fullmatch(name)]
    return " | ".join(["", cells[numbers[0]], *cells[place:]]) if numbers and place < len(cells) else ""


# --- blocks -------------------------------------------------------------------------------------------------------

Spans = tuple[list[tuple[int, int, int]], str | None]  # `(number of the text, start, end)` of each block, or why there are none


def _spans(plain: str, count: int) -> Spans:
    ratings = [said for said in RATING.finditer(plain) if _value(said)[2]]
    numbered = list(NUMBERED_RATING.finditer(plain))
    heads = list(HEADING.finditer(plain))
    if not heads and len(numbered) == len(ratings):
        heads = numbered or list(NUMBERED.finditer(plain))
    if heads:
        return _numbered([int(head[1]) for head in heads], heads, plain)
    if count == 1:
        return [(1, 0, len(plain))], None
    if len(ratings) != count:
        # Which text has none cannot be told, so no rating is given to any.
        return [], f"{len(ratings)} ratings without headings for {count} texts" if ratings else "no rating"
    return _titled(plain, ratings)


def _numbered(numbers: list[int], heads: list[re.Match], plain: str) -> Spans:
    if 0 in numbers:
        return [], "headings count from 0"
    if is_scale(numbers, [plain[head.end() :] for head in heads]):
        return [], "the scale, not ratings"
    return _between(numbers, heads, len(plain)), None


def _titled(plain: str, ratings: list[re.Match]) -> Spans:
    """Blocks with one rating each, by the numbers in the headings above them; in their order if there are no headings."""
    count, starts = len(ratings), [0, *(said.end() for said in ratings)]
    gaps = [(start, said.start()) for start, said in zip(starts, ratings, strict=False)]
    titles = [title for gap in gaps for title in list(TITLE.finditer(plain, *gap))[-1:]]
    numbers = [_ordinal(title["number"]) for title in titles]
    names = {(title["before"].lower(), title["after"].lower()) for title in titles}
    if sorted(numbers) == list(range(1, count + 1)) and len(names) == 1:
        return _between(numbers, titles, len(plain)), None
    bare = any(_is_title(line) for start, end in gaps[1:] for line in plain[start:end].splitlines())
    if titles or bare or any(MENTION.search(plain, *gap) for gap in gaps):
        return [], "headings without the numbers of the texts"
    labels = list(RATIONALE.finditer(plain))
    rationale_first = len(labels) == count and labels[0].start() < ratings[0].start()
    return _between(range(1, count + 1), labels if rationale_first else ratings, len(plain), after=False), None


def _ordinal(word: str) -> int:
    digits = re.match(r"\d+", word)
    return int(digits[0]) if digits else ORDINALS[word.lower()]


def _is_title(line: str) -> bool:
    """Whether a line may be a heading: short, not a sentence, and without a label."""
    line = line.strip("\"')]} \t")
    return bool(re.search(r"\w", line)) and len(line) <= 60 and line[-1] not in ".!?。" and not RATIONALE.match(line)


def _between(numbers: Sequence[int], marks: list[re.Match], end: int, after: bool = True) -> list[tuple[int, int, int]]:
    """Blocks from each mark (from behind it if `after`) to the next."""
    starts = [mark.end() if after else mark.start() for mark in marks]
    ends = [mark.start() for mark in marks[1:]] + [end]
    return list(zip(numbers, starts, ends, strict=True))


def _one_of(blocks: list[dict[str, Any]], missing: str) -> dict[str, Any]:
    """The block that counts. Two that disagree, such as a quoted one and the judge's own, give no rating."""
    if not blocks:
        return entry(reason=missing)
    stated = [block for block in blocks if block["reason"] != "no rating"]
    best = (stated or blocks)[0]
    why = next((block["rationale"] for block in [best, *blocks] if block["rationale"]), None)
    contradiction = _contradiction([(block["rating"], block["reason"]) for block in stated])
    return entry(None, why, contradiction) if contradiction else {**best, "rationale": why}


def _contradiction(said: list[tuple[float | None, str | None]]) -> str | None:
    different = dict.fromkeys(reason or f"{rating:g}" for rating, reason in said)
    return f"contradicting ratings: {', '.join(different)}" if len(different) > 1 else None


# --- one block ----------------------------------------------------------------------------------------------------


def _read(plain: str, raw: str, headed: bool) -> dict[str, Any]:
    """A block's rating and rationale; `headed`: it begins beside its heading."""
    ratings, label = list(RATING.finditer(plain)), RATIONALE.search(plain)
    if not ratings:
        value, reason, end = _unlabelled(plain, headed)
        return entry(value, _tidy(raw[label.start() :] if label else raw[end:].lstrip(LEFTOVERS)), reason)
    rating_first = not label or ratings[0].start() < label.start()
    own = _own_ratings(ratings, label, rating_first)
    said, (value, reason, length) = own[0], _value(own[0])
    if contradiction := _contradiction([_value(one)[:2] for one in own]):
        value, reason = None, contradiction
    if label:
        return entry(value, _tidy(raw[label.start() : len(raw) if rating_first else said.start()]), reason)
    behind = raw[said.start("value") + length :].lstrip(LEFTOVERS)
    return entry(value, _tidy(behind) or _tidy(raw[: said.start()]), reason)


def _own_ratings(ratings: list[re.Match], label: re.Match | None, rating_first: bool) -> list[re.Match]:
    """The judge's own ratings in a block.

    A rating comes first and the rationale may quote others, or it comes last and the rationale before it may. A "final"
    rating in a rationale may be the judge's last word or a quoted trick; it counts, so that together they contradict.
    """
    if not label:
        return ratings
    if not rating_first:
        return ratings[-1:]
    return [said for said in ratings if said.start() < label.start() or FINAL_RATING.match(said[0])]


def _unlabelled(plain: str, headed: bool) -> Value:
    """A rating without a label: beside the heading, or at the beginning of the first line after it."""
    first, *rest = plain.split("\n", 1)
    beside = headed and bool(re.search(rf"[\w{STAR}]", first))
    line = first if re.search(rf"[\w{STAR}]", first) or not rest else rest[0].lstrip().split("\n", 1)[0]
    start = plain.index(line)
    value, reason, length = read_value(line)
    set_off = (ALONE_AT_HEADING if beside else ALONE).match(line, length)
    return (value, reason, start + length) if length and set_off else (None, "no rating", 0)


def _value(said: re.Match) -> Value:
    value, reason, length = read_value(said["value"])
    return (value, reason, length) if is_to_five(said["scale"]) else (None, f"off the scale: {said['scale']}", length)


def _tidy(text: str) -> str | None:
    """A rationale without its label and the marks around it; without a label, a word of the scale, "(Good)", is none."""
    label = RATIONALE.match(_plain(text))
    text = CLOSING_TAGS.sub("", text[label.end() :] if label else text).strip().rstrip("| \t\n")
    text = text.removesuffix("**") if text.count("**") % 2 else text
    word = not label and re.fullmatch(r"\W*(?:" + "|".join(WORDS) + r")\W*", text, re.I)
    return None if word or not re.search(r"\w", text) else text


def entry(rating=None, rationale=None, reason=None, distribution=None) -> dict[str, Any]:
    return {"rating": rating, "rationale": rationale, "reason": reason, "distribution": distribution}
