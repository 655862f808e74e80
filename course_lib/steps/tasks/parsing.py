"""Reading ratings out of a judge's reply, for models that only write text."""

import re
import unicodedata
from typing import Any

BLOCK = re.compile(r"^\W*(?:output\s+for\s+)?(?:text|テキスト|出力)\s*(\d+)\b.*?$|^\W*<text\s*(\d+)>", re.I | re.M)
RATING = re.compile(r"^\W*(?:(?:overall\s+)?(?:rating|score)|評価|評点|スコア|点数)\s*(?:[:=]|は|-)\s*(.*)$", re.I | re.M)
RATIONALE = re.compile(r"^\W*(?:rationale|reason(?:ing)?|explanation|根拠|理由)\s*(?:[:=]|は|-)\s*", re.I | re.M)
NUMBER = re.compile(r"^\W*?([-+]?\d+(?:[.,]\d+)?)(?:\s*(?:/|out of|of)\s*(\d+(?:\.\d+)?))?", re.I)
SCALES = ("poor weak fair good excellent", "one two three four five")
WORDS = {word: float(value) for scale in SCALES for value, word in enumerate(scale.split(), start=1)}


def parse_ratings(reply: str | None, count: int) -> list[dict[str, Any]]:
    """One entry per rated text, in order, whatever the reply looks like.

    Args:
        reply: the judge's text, or None.
        count: how many texts were shown.

    Returns:
        `count` dicts `{"rating": float in 1-5 | None, "rationale": str | None, "reason": str | None, "distribution": None}`;
        `reason` says why a rating is None: `no reply`, `missing block`, `no rating`, `off the scale: …`.
    """
    if not reply or not reply.strip():
        return [_entry(reason="no reply") for _ in range(count)]
    blocks = _blocks(_cleaned(reply), count)
    return [_read(blocks[number]) if number in blocks else _entry(reason="missing block") for number in range(1, count + 1)]


def _cleaned(reply: str) -> str:
    """Full-width forms made plain, emphasis taken off."""
    return re.sub(r"\*+|__+|`+", "", unicodedata.normalize("NFKC", reply)).replace("：", ":")


def _blocks(reply: str, count: int) -> dict[int, str]:
    """The part of `reply` for each text by its number; without headings, each rating begins a part."""
    heads = list(BLOCK.finditer(reply))
    if heads:
        ends = [head.start() for head in heads[1:]] + [len(reply)]
        numbered = [(int(h[1] or h[2]), reply[h.end() : end]) for h, end in zip(heads, ends, strict=True)]
        # The first block of a number counts: what follows may be a quotation.
        return dict(reversed(numbered))
    starts = [match.start() for match in RATING.finditer(reply)]
    if count == 1 or len(starts) < 2:
        return {1: reply} if count == 1 or starts else {}
    return {i + 1: reply[a:b] for i, (a, b) in enumerate(zip(starts, [*starts[1:], len(reply)], strict=True))}


def _read(block: str) -> dict[str, Any]:
    rationale = RATIONALE.search(block)
    said = RATING.search(block)
    value, reason = _value(said[1]) if said else _value(block.strip())
    why = block[rationale.end() :] if rationale else (block[said.end() :] if said else "")
    if rationale and said and said.start() > rationale.start():
        why = block[rationale.end() : said.start()]
    return _entry(value, why.strip() or None, reason)


def _value(text: str) -> tuple[float | None, str | None]:
    number = NUMBER.match(text)
    if number is None:
        word = re.match(r"\W*(very\s+)?([a-z]+)", text, re.I)
        value = WORDS.get(word[2].lower()) if word else None
        return (value, None) if value else (None, "no rating")
    value = float(number[1].replace(",", "."))
    if not 1 <= value <= 5 or (number[2] and float(number[2]) != 5):
        return None, f"off the scale: {number[0].strip()}"
    return value, None


def _entry(rating: float | None = None, rationale: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"rating": rating, "rationale": rationale, "reason": reason, "distribution": None}
