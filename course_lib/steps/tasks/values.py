"""One rating at the beginning of a line: a number, a word of the scale or stars. What is not plainly from 1 to 5 is none."""

import re

# One character for one character, so that places found in the plain reply hold in the reply as it was written.
PLAIN = str.maketrans("０１２３４５６７８９：／．，＝（）＃｜＋％〜～−–－‐‑⁄∕＊*_`", "0123456789:/.,=()#|+%~~-----//    ")

STAR = "★⭐🌟"
# What a rating may stand behind: quotation marks, brackets, a dash; but not a sign or "≥", which make it another number.
LEAD = r"[^\w\n+\-≥≤±]{0,9}(?:-[ \t])?[^\w\n+\-≥≤±]{0,3}"
FIGURE = r"\d+(?:[.,]\d+)?"
MULTIPLIED = r"[ \t]?(?:%|(?:percent|per cent|hundred|thousand|million)\b|[割十百千万])"
NUMBER = re.compile(
    LEAD + r"(?:(?:about|around|roughly|a)[ \t])?(?:5[ \t]?(?:段階|点満点|点)(?:評価)?(?:中の?|で)|星)?"
    rf"([-+]?{FIGURE})(?:[ \t]?(?:点|つ星?|[{STAR}]|(?:points?|pts?|stars?)\b))?"
    r"(?:[ \t(\[]{0,5}(?:/[ \t]{0,3}|(?:out[ \t])?of[ \t])(\d+(?:\.\d+)?|[a-z]+)(?:[ \t]?点(?:満点)?)?)?(?:です)?"
    rf"({MULTIPLIED})?(?![a-z½¼¾²³+{STAR}]|[.,:/]?\d|[ \t]\d|点?満点|段階|[ \t](?:point|and a half|or|to)\b)",
    re.I,
)
# What follows a rating counts only if it ends there: "4 (9 of 10 facts hold)" and "4 - weak on dates" are fours.
CLOSED = r"[ \t\"']{0,3}(?:[)\],:、]|[-—][ \t]|$)"
COUNTS = {"zero": 0, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "hundred": 100}
STEP = rf"(?:\d+(?:\.\d+)?|\b(?:{'|'.join(COUNTS)})\b)"
STEPS = rf"(?:(?:\d+(?:\.\d+)?|one|zero)[ \t]?(?:[-~/]|(?:up[ \t])?to\b|through\b|(?:out[ \t])?of\b|から)[ \t]?{STEP})"
FILLER = r"(?:[ \t:.(]|\b(?:an?|the|of|from|is|max(?:imum)?|possible|total)\b){0,9}"
SCALED = re.compile(
    r"[ \t,:—(\[-]{0,6}(?:(?:on|from|using)[ \t])?(?:(?:an?|the)[ \t])?(?P<scale>"
    rf"(?:/|out[ \t]of\b|scale\b){FILLER}(?:{STEPS}|{STEP})|{STEP}(?:-point|[ -]point[ -]scale|点満点|段階)"
    rf"|(?:{STEPS}|(?:(?:of|max(?:imum)?)\b|満点は?){FILLER}{STEP})(?=[ \t]?(?:scale|points?|stars?|点)?{CLOSED}))",
    re.I | re.M,
)
# "3-4", "3 - 4", "1...5", "4 → 3", "1, 2 or 3", "1 = Poor, …, 5 = Excellent"; but not "3 - 4 of its claims are wrong".
SEVERAL = re.compile(
    LEAD
    + rf"(?:{FIGURE}(?:/5)?(?:(?:[ \t]?(?:~|->|→|&|から|または|か)[ \t]?|[-—…]|\.{{2,4}}|[ \t](?:to|through|or|and)[ \t])\d"
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
        return _checked(WORDS[word[1].lower()], text, word.end())
    if stars:
        return _stars(stars)
    if not number:
        return None, "no rating", 0
    value = _figure(number)
    if value is None:
        return None, f"off the scale: {_brief(number[0])}", number.end()
    return _checked(value, text, number.end(), of_five=bool(number[2]))


def _stars(stars: re.Match) -> Value:
    full, empty = len(stars[1].replace("\ufe0f", "")), len(stars[2])
    fits = full <= 5 and empty in (0, 5 - full)
    return (float(full), None, stars.end()) if fits else (None, f"off the scale: {_brief(stars[0])}", stars.end())


def _figure(number: re.Match) -> float | None:
    value, ours = float(number[1].replace(",", ".")), (number[2] or "5").lower() in ("5", "5.0", "five")
    return value if ours and 1 <= value <= 5 and not number[3] and not re.search(r",\d{3}$", number[1]) else None


def _checked(value: float, text: str, end: int, of_five: bool = False) -> Value:
    """`value`, unless the same sentence goes on with another scale or rating: "4, scale 1-10", "4 (Weak)", "Weak - 4"."""
    rest = re.split(r"[|;。]|(?<!max)\.(?!\d)", text[end:], maxsplit=1)[0]
    word, number, scale = WORD.match(rest), None if of_five else NUMBER.match(rest), None if of_five else SCALED.match(rest)
    again = word or number
    if again and re.compile(CLOSED).match(rest, again.end()):
        said = WORDS[word[1].lower()] if word else _figure(number)
        if said is None or abs(said - value) >= (1 if word else 0.01):
            return None, f"unclear: {_brief(text)}", end
    if scale and not is_to_five(scale["scale"]):
        return None, f"off the scale: {_brief(text)}", end
    return value, None, end


def is_to_five(scale: str | None) -> bool:
    """Whether words such as "1-5" or "out of ten", behind a rating or in the brackets of its label, name our scale or none."""
    steps = [float(COUNTS.get(step.lower(), step)) for step in re.findall(STEP, scale or "", re.I)]
    return not steps or (max(steps) == 5 and 0 not in steps)


def is_scale(numbers: list[int], texts: list[str]) -> bool:
    """Whether a numbered list is the scale itself: "1. Poor", "2. Weak", "3. Fair", …"""
    words = [WORD.match(text) for text in texts]
    return len(numbers) > 2 and all(word and WORDS[word[1].lower()] == k for k, word in zip(numbers, words, strict=True))


def _brief(text: str) -> str:
    return text.strip()[:40]
