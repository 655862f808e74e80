"""One rating at the beginning of a line: a number, a word of the scale or stars. What is not plainly from 1 to 5 is none."""

import re

# One character for one character, so that places found in the plain reply hold in the reply as it was written.
PLAIN = str.maketrans("０１２３４５６７８９：／．，＝（）＃｜＋％〜～−–－‐‑＊*_`", "0123456789:/.,=()#|+%~~-----    ")

STAR = "★⭐🌟"
# What a rating may stand behind: quotation marks, brackets, a dash; but not a sign or "≥", which make it another number.
LEAD = r"[^\w\n+\-≥≤±]{0,9}(?:-[ \t])?[^\w\n+\-≥≤±]{0,3}"
FIGURE = r"\d+(?:[.,]\d+)?"
MULTIPLIED = r"[ \t]?(?:%|(?:percent|per cent|hundred|thousand|million)\b|[割十百千万])"
NUMBER = re.compile(
    LEAD + r"(?:(?:about|around|roughly|a)[ \t])?(?:5[ \t]?(?:段階|点満点|点)(?:評価)?(?:中の?|で)|星)?"
    rf"([-+]?{FIGURE})(?:[ \t]?(?:点|つ星?|[{STAR}]|(?:points?|stars?)\b))?"
    r"(?:[ \t(\[]{0,3}(?:/[ \t]?|(?:out[ \t])?of[ \t])(\d+(?:\.\d+)?|[a-z]+)(?:[ \t]?点)?)?(?:です)?"
    rf"({MULTIPLIED})?(?![a-z½¼¾²³+{STAR}]|[.,:/]?\d|[ \t]\d|点?満点|段階|[ \t](?:point|and a half|or|to)\b)",
    re.I,
)
# Behind a number, where another scale may be named: "4 (10点満点)", "4 on a scale of 1 to 10".
BEHIND = re.compile(r"[ \t,]{0,3}(?:[(\[]|on (?:an?|the) )([^()\n.;]{0,60})", re.I)
# "3-4", "3 - 4", "4 → 3", "1, 2 or 3", "1 = Poor, …, 5 = Excellent"; but not "3 - 4 of its claims are wrong".
SEVERAL = re.compile(
    LEAD + rf"(?:{FIGURE}(?:/5)?(?:(?:[ \t]?(?:~|->|→|から|または|か)[ \t]?|[-—]|[ \t](?:to|or|and)[ \t])\d"
    rf"|[ \t][-—][ \t]{FIGURE}(?:/5)?(?:[ \t]stars?)?[^\w\n]{{0,9}}$)"
    r"|\d(?:,[ \t]\d){1,9},?(?:[ \t](?:or|and)[ \t]\d)?[^\w\n]{0,9}$|1\W{1,4}poor\b.{0,200}\bexcellent\b)",
    re.I | re.M,
)
# Alone, 悪い is the first step of one common scale and the second of another, so it is not among them.
SCALES = (
    "poor weak fair good excellent",
    "one two three four five",
    "非常に悪い やや悪い 普通 良い 非常に良い",
    "とても悪い 弱い まあまあ よい とても良い",
)
WORDS = {word: float(value) for scale in SCALES for value, word in enumerate(scale.split(), start=1)}
WORDS |= dict.fromkeys(("優秀", "優れている", "素晴らしい"), 5.0)
WORD = re.compile(
    LEAD + r"(?:very[ \t])?(" + "|".join(WORDS) + r")(?:です)?\b(?:[ \t]out of[ \t](?:five|5)\b)?"
    rf"(?![/-]\w|[ \t](?:to|or|of|out|point|and a half)\b|{MULTIPLIED})",
    re.I,
)
STARS = re.compile(rf"[^\w\n{STAR}☆½]{{0,9}}((?:[{STAR}]\ufe0f?)+)(☆*)(?![{STAR}½])")

Value = tuple[float | None, str | None, int]  # a rating, or why there is none; and the length of what was read


def read_value(text: str) -> Value:
    """The rating at the beginning of `text`, which has been through `PLAIN`."""
    number, word, stars, several = (pattern.match(text) for pattern in (NUMBER, WORD, STARS, SEVERAL))
    if several:
        return None, f"unclear: {_brief(several[0])}", several.end()
    if word:
        return _word(text, word)
    if stars:
        return _stars(stars)
    return _number(text, number) if number else (None, "no rating", 0)


def _word(text: str, word: re.Match) -> Value:
    value, number = WORDS[word[1].lower()], NUMBER.match(text, word.end())
    agreed = not number or _number(text, number)[0] == value
    return (value, None, word.end()) if agreed else (None, f"unclear: {_brief(text)}", word.end())


def _stars(stars: re.Match) -> Value:
    full, empty = len(stars[1].replace("\ufe0f", "")), len(stars[2])
    fits = full <= 5 and full + empty in (full, 5)
    return (float(full), None, stars.end()) if fits else (None, f"off the scale: {_brief(stars[0])}", stars.end())


def _number(text: str, number: re.Match) -> Value:
    value, behind, end = float(number[1].replace(",", ".")), BEHIND.match(text, number.end()), number.end()
    other_scale = number[3] or (number[2] or "5").lower() not in ("5", "5.0", "five") or (behind and _most(behind[1]) > 5)
    if not 1 <= value <= 5 or re.search(r",\d{3}$", number[1]) or other_scale:
        return None, f"off the scale: {_brief(text if behind else number[0])}", end
    word = WORD.match(behind[1]) if behind else None
    agreed = not word or abs(WORDS[word[1].lower()] - value) < 1
    return (value, None, end) if agreed else (None, f"unclear: {_brief(text)}", end)


def is_to_five(scale: str | None) -> bool:
    """Whether the brackets of a label such as "Rating (1-5)" name our scale, or none."""
    return not re.search(r"\d", scale or "") or (_most(scale) == 5 and not re.search(r"(?<!\d)0", scale))


def is_scale(numbers: list[int], texts: list[str]) -> bool:
    """Whether a numbered list is the scale itself: "1. Poor", "2. Weak", "3. Fair", …"""
    words = [WORD.match(text) for text in texts]
    return len(numbers) > 2 and all(word and WORDS[word[1].lower()] == k for k, word in zip(numbers, words, strict=True))


def _most(text: str) -> float:
    return max(map(float, re.findall(r"\d{1,9}(?:\.\d{1,9})?", text)), default=0)


def _brief(text: str) -> str:
    return text.strip()[:40]
