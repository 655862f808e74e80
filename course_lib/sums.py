"""Sums that do not come out: the part of an answer's truth that code can check.

"48 + 67 = 105", "15% of 240 is 48", or "What is 17 × 6?" answered with "96": nobody needs a judge for that, and a small model
cannot do it. Only plain cases are decided; of all others nothing is claimed.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

NUMBER = r"[£$€]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,12})(?:\.\d{1,9})?"
OPERATORS = {"+": "+", "plus": "+", "-": "-", "−": "-", "–": "-", "minus": "-"} | {
    **dict.fromkeys(["×", "x", "*", "·", "times", "multiplied by"], "×"),
    **dict.fromkeys(["÷", "/", "divided by"], "÷"),
}
OPERATOR = "|".join(re.escape(sign) for sign in OPERATORS)
# Without spaces around it, "3-5" may be a range and "3/4" a fraction.
TERMS = rf"{NUMBER}(?:(?: ?[+×*·÷] ?| (?:{OPERATOR}) ){NUMBER}){{1,9}}"
PERCENT = rf"\d{{1,3}}(?:\.\d+)? ?(?:%|percent|per cent) of {NUMBER}"
CALCULATION = rf"(?:{PERCENT}|{TERMS})"
# Not after or before what makes it part of a longer calculation, a date, a time or a formula.
BEGIN = r"(?<![\w.,:)\]^√+*·/×÷=−–-])(?<![+*·/×÷=x−–-] )"
END = rf"(?![\w%:^²³]|[.,/]\d| ?(?:{OPERATOR}|r|R|remainder|\() ?[\d(]|,? (?:with )?(?:a )?remainder)"
EQUATION = re.compile(rf"{BEGIN}({CALCULATION})(?: ?=|(?:, which)? (?:is|equals|makes)) ?({NUMBER}){END}")
QUESTION = re.compile(
    rf"\b(?:what(?:'s|’s| is)|calculate|compute|work out|how much is) ({CALCULATION})(?= ?\?|[.,!]?(?: |$))"
    rf"(?! ?(?:{OPERATOR}|\() ?[\d(])|{BEGIN}({CALCULATION}) ?= ?\?",
    re.IGNORECASE,
)


def false_sums(instruction: str, text: str) -> list[str]:
    """The sums in `text` that do not come out, and the sum asked for in `instruction` if `text` has only other numbers."""
    stated = {found[0] for found in EQUATION.finditer(instruction)}  # to quote what was asked about is no mistake
    equations = [found for found in EQUATION.finditer(text) if found[0] not in stated]
    return [f"{found[0]} is false" for found in equations if not _holds(*found.groups())] + list(_missed(instruction, text))


def _missed(instruction: str, text: str) -> Iterator[str]:
    numbers = re.findall(NUMBER, text)
    for found in QUESTION.finditer(instruction):
        asked = found[1] or found[2]
        if numbers and not any(_holds(asked, number) for number in numbers):
            yield f"no answer to {asked}"


def _holds(calculation: str, result: str) -> bool:
    """Whether `result` is what comes out, or what may be written for it."""
    try:
        exact = _value(calculation)
    except ZeroDivisionError:
        return True
    digits = len(result.partition(".")[2])
    off = abs(exact - _number(result))
    # Rounded or cut off; hours of a clock; a difference whichever way round.
    return off < Fraction(1, 10**digits) or off in (12, 24) or exact == -_number(result)


def _value(calculation: str) -> Fraction:
    share, of, whole = re.sub(r" ?(?:%|percent|per cent) of ", "§", calculation).partition("§")
    if of:
        return _number(share) * _number(whole) / 100
    signs = [OPERATORS[sign.lower()] for sign in re.findall(OPERATOR, calculation, re.IGNORECASE)]
    first, *others = [_number(number) for number in re.findall(NUMBER, calculation)]
    terms = [first]
    for sign, number in zip(signs, others, strict=True):
        if sign in "+-":
            terms.append(number if sign == "+" else -number)
        else:
            terms[-1] = terms[-1] * number if sign == "×" else terms[-1] / number
    return sum(terms, Fraction(0))


def _number(written: str) -> Fraction:
    return Fraction(re.sub(r"[£$€,]", "", written))
