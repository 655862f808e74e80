"""What code can check in an answer without a model: constraints on its form, and sums.

"In exactly two sentences", "as bullet points", "without the letter e": whether an answer keeps to such a constraint
needs no judge (verifiable instructions: Zhou et al. 2023, https://arxiv.org/abs/2311.07911). Nor does "48 + 67 = 105",
which a small model cannot compute. Both are recognised by their wording; where it is no plain case, nothing is claimed.
"""

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

from course_lib.steps.filtering import words

Check = Callable[..., bool]


def faults_by_code(instruction: str, text: str) -> list[str]:
    """What code finds wrong with `text`, in words: nothing but the instruction, constraints broken, false sums."""
    asked = words(instruction)
    repeated = ["more than the instruction again"] if len(asked) > 2 and words(text) == asked else []
    return [*repeated, *broken_constraints(instruction, text), *false_sums(instruction, text)]


def broken_constraints(instruction: str, text: str) -> list[str]:
    """The constraints of `instruction` that `text` does not keep to, in words; often none."""
    return [constraint for constraint, holds in constraints(instruction) if not holds(text.strip())]


def constraints(instruction: str) -> Iterator[tuple[str, Check]]:
    """The constraints on form that are recognised in `instruction`, each in words and with its check of a text."""
    # What stands in quotation marks, if it is more than a letter, or below a colon, is material.
    quotation = r'"[^"]{4,}"|“[^“”]{4,}”|(?<!\w)[\'‘][^\'‘’]{4,}[\'’](?!\w)'
    own_words = " ".join(re.sub(rf"{quotation}|:[ \t]*\n.*", '""', instruction, flags=re.DOTALL).split())
    for unit, count in UNITS.items():
        yield from _counts(own_words, unit, count)
    for name, wording, holds, unless in FORMS:
        asked = re.search(wording, own_words, re.IGNORECASE)
        if asked and not (unless and _in(unless, own_words)):
            letters = asked.groups()
            yield name.format(*letters), lambda text, holds=holds, letters=letters: holds(text, *letters)


def false_sums(instruction: str, text: str) -> list[str]:
    """The sums in `text` that do not come out, and the sum that `instruction` asks for if `text` has only other numbers."""
    quoted = {equation[0] for equation in EQUATION.finditer(instruction)}  # to repeat them is no mistake
    equations = [equation for equation in EQUATION.finditer(text) if equation[0] not in quoted]
    questions = [question[1] or question[2] for question in QUESTION.finditer(instruction)]
    figures = re.findall(FIGURE, text)
    missing = [sum_ for sum_ in questions if figures and not any(_holds(sum_, figure) for figure in figures)]
    false = [f"{equation[0]} is false" for equation in equations if not _holds(*equation.groups())]
    return false + [f"no answer to {calculation}" for calculation in missing]


# --- constraints: so many words, lines, … -----------------------------------------------------------------------

LIST_LINE = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,2}[.)])[ \t]+\S", re.MULTILINE)
NO_STOP = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e|a\.m|p\.m|approx|No|[A-Z])\.|(?<=\d)\.(?=\d)")
NUMERALS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMERAL = rf"(\d{{1,3}}|{'|'.join(NUMERALS)}|a single)"
FEWER = r"under|fewer than|less than"
AT_MOST = rf"{FEWER}|at most|no more than|no longer than|up to|(?:a )?max(?:imum)?(?: of)?|within"
OR_LESS = r" or fewer| or less| at most|(?:,? and)? no more| max(?:imum)?\b"
ADJECTIVES = r"(?:(?:short|simple|plain|complete|full) )*"
# Around a numeral: it is for a part of the answer, it is not exact, or it counts what is there already.
BEFORE = (
    r"\b(?:each|per|every|at least|about|around|roughly|first|last|all|these|those|following|then|followed|and an?)\b"
    r"|\bor$"
)
AFTER = r"\b(?:each|per|apiece|or so|or more|or phrase|comment|title|logline)\b"
WORDS_OF_A_KIND = r"^(?:that|which|meaning)\b"  # "two words that mean happy" may be told with more than two


def _words(text: str) -> int:
    return len(re.findall(r"\w+(?:['’.,:-]\w+)*", text))


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines() if not line.startswith("```"))


UNITS: dict[str, Callable[[str], int]] = {
    "sentence": lambda text: len(re.findall(r"[^\s.!?…][^.!?…]*", NO_STOP.sub("", text))),
    "word": _words,
    "line": _lines,
    "paragraph": lambda text: len([part for part in re.split(r"\n[ \t]*\n", text) if part.strip()]),
    "bullet point": lambda text: len(LIST_LINE.findall(text)),
}


def _counts(own_words: str, unit: str, count: Callable[[str], int]) -> Iterator[tuple[str, Check]]:
    limit = rf"(?:({AT_MOST}) )?(?<![\w-]){NUMERAL}( or fewer)?[ -]{ADJECTIVES}{unit}s?\b({OR_LESS})?"
    for match in re.finditer(limit, own_words, re.IGNORECASE):
        before = " ".join(own_words[: match.start(2)][-60:].split()[-4:])
        after = " ".join(own_words[match.end() :][:60].split()[:3])
        if _in(BEFORE, before) or _in(AFTER, after) or (unit == "word" and _in(WORDS_OF_A_KIND, after)):
            continue
        numeral = match[2].lower()
        number = int(numeral) if numeral.isdigit() else [*NUMERALS, "a single"].index(numeral) % 12 + 1
        if match[1] or match[3] or match[4]:
            most = number - _in(FEWER, match[1] or "")
            yield f"at most {most} {unit}s", lambda text, most=most: count(text) <= most
        else:
            plural = "s" if number > 1 else ""
            yield f"{number} {unit}{plural}", lambda text, number=number: count(text) == number


def _in(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


# --- constraints: the table of forms ----------------------------------------------------------------------------


class Form(NamedTuple):
    """A constraint: its name, the wording that asks for it, its check, and the wording that means something else."""

    name: str
    wording: str
    holds: Check
    unless: str | None = None


def _is_json(text: str) -> bool:
    try:
        json.loads(re.sub(r"^```(?:json)?|```$", "", text).strip())
    except (ValueError, RecursionError):
        return False
    return True


def _lacks(name: str, wording: str, mark: str) -> Form:
    unwanted = rf"\b(?:no|without|avoid|not use|n['’]t use)(?: any| using)* {wording}"
    return Form(f"no {name}", unwanted, lambda text: not re.search(mark, text))


def _verse(form: str, lines: int) -> Form:
    wording, what_is = rf"\b(?:a|one) {form}\b", r"\bwhat(?: is|'s|’s)\b"
    return Form(f"{lines} lines", wording, lambda text: _lines(text) == lines, what_is)


def _items(mark: str) -> Check:
    return lambda text: len(re.findall(rf"(?m)^[ \t]*{mark}", text)) > 1


NO_LIST = r"\b(?:no|not|without)(?: any| a| use)? (?:bullet|list|numbered)|\bin (?:flowing )?prose\b"
NUMBERED = r"\bnumbered (?:list|steps)\b"
BULLETS = r"\bbullet(?:s|ed|[- ](?:point|list)s?)\b"
PROGRAM = r"\b(?:code|function|script|program|Python|JavaScript)\b"
ON_LINES = r"\bone per line\b|\beach on (?:its|a|a new|a separate) (?:own )?line\b|\bon separate lines\b"
COMMAS = r"\b(?:comma[- ]separated|separated by commas)\b"
WITHOUT = r"(?:without(?: using)?|not (?:use|contain)|n['’]t (?:use|contain)|avoid(?:ing|s)?|no)"
LETTER = WITHOUT + r" the letter ['‘\"“]?([a-z])\b"
CONTRACTION = r"(?i)\w(?:n['’]t|['’](?:re|ve|ll|m|d))\b|\b(?:it|that|there|here|what|who|he|she|let)['’]s\b"
UPPER = r"\b(?:upper ?case|all caps|(?:all|block) capitals|capital letters)\b"
LOWER = r"\b(?:lower ?case|no capitals?)\b"
FIGURES = r"(?:number|figure|digits?)"
JUST_NUMBER = rf"\b(?:just|only) (?:the |a |one )?{FIGURES}\b|\b{FIGURES} (?:only|alone)\b"
NUMBER = r"\W*\d[\d.,:/ ]*\S{0,4}"
ANSWERS = "name|word|year|date|answer|letter|result|code|formula|term"
JUST_ANSWER = rf"\b(?:just|only) (?:the |a )?(?:{ANSWERS})\b(?! (?:of|for|from|to))|\b(?:{ANSWERS}) only\b"
YES_OR_NO = (
    r"\b(?:answer|reply|respond|say)(?: with| just| only)* yes or no\b(?! by)|^yes or no\b|\byes or no[?:]"
)
FORMS = [
    Form("no list", NO_LIST, lambda text: not LIST_LINE.search(text)),
    Form("a numbered list", NUMBERED, _items(r"\d{1,2}[.)]"), NO_LIST),
    Form("bullet points", BULLETS, _items(r"[-*•–][ \t]"), f"{NO_LIST}|{NUMBERED}"),
    Form("JSON", r"(?<!\.)\bJSON\b", _is_json, PROGRAM),
    Form("one per line", ON_LINES, lambda text: "\n" in text),
    Form("separated by commas", COMMAS, lambda text: "," in text and "\n" not in text, "CSV"),
    _verse("haiku", 3),
    _verse("limerick", 5),
    Form("no letter {}", LETTER, lambda text, letter: letter.lower() not in text.lower()),
    _lacks("exclamation marks", "exclamation marks?", "!"),
    _lacks("contractions", "contractions?", CONTRACTION),
    _lacks("digits", "(?:digits|numbers|numerals)", r"\d"),
    _lacks("code", "code", r"```|\bdef |\bprint\(|[{};]\n"),
    _lacks("emojis", "emojis?", "[\U0001f300-\U0001faff]"),
    Form("upper case", UPPER, lambda text: text == text.upper()),
    Form("lower case", LOWER, lambda text: text == text.lower()),
    Form("just a number", JUST_NUMBER, lambda text: _words(text) == 1 or bool(re.fullmatch(NUMBER, text))),
    Form(
        "nothing but the answer",
        JUST_ANSWER,
        lambda text: _words(text) <= 6 or bool(re.search("[\n=]", text)),
        JUST_NUMBER,
    ),
    Form("yes or no", YES_OR_NO, lambda text: _in(r"^\W*(?:yes|no)\b", text)),
]

# --- sums -------------------------------------------------------------------------------------------------------

FIGURE = r"[£$€]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,12})(?:\.\d{1,9})?"
OPERATORS = {"+": "+", "plus": "+", **dict.fromkeys(["-", "−", "–", "minus"], "-")}
OPERATORS |= dict.fromkeys(["×", "x", "*", "·", "times", "multiplied by"], "*")
OPERATORS |= dict.fromkeys(["÷", "/", "divided by"], "/")
OPERATOR = "|".join(map(re.escape, OPERATORS))
PERCENT_OF = r" ?(?:%|percent|per cent) of "
# Without spaces around it, "3-5" may be a range and "3/4" a fraction.
TERMS = rf"{FIGURE}(?:(?: ?[+×*·÷] ?| (?:{OPERATOR}) ){FIGURE}){{1,9}}"
CALCULATION = rf"(?:\d{{1,3}}(?:\.\d+)?{PERCENT_OF}{FIGURE}|{TERMS})"
# Not after or before what makes it part of a longer calculation, a date, a time or a formula.
BEGIN = r"(?<![\w.,:)\]^√+*·/×÷=−–-])(?<![+*·/×÷=x−–-] )"
END = rf"(?![\w%:^²³]|[.,/]\d| ?(?:{OPERATOR}|r|R|remainder|\() ?[\d(]|,? (?:with )?(?:a )?remainder)"
EQUATION = re.compile(rf"{BEGIN}({CALCULATION})(?: ?=|(?:, which)? (?:is|equals|makes)) ?({FIGURE}){END}")
QUESTION = re.compile(
    rf"\b(?:what(?:'s|’s| is)|calculate|compute|work out|how much is) ({CALCULATION})(?= ?\?|[.,!]?(?: |$))"
    rf"(?! ?(?:{OPERATOR}|\() ?[\d(])|{BEGIN}({CALCULATION}) ?= ?\?",
    re.IGNORECASE,
)
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def _holds(calculation: str, result: str) -> bool:
    """Whether `result` is what comes out, or what may be written for it."""
    # In Python's signs, and its figures as strings, so that "0.1" is a tenth and "007" is read at all.
    expression = re.sub(PERCENT_OF, " / 100 * ", calculation)
    expression = re.sub(FIGURE, lambda figure: repr(_plain(figure[0])), expression)
    expression = re.sub(OPERATOR, lambda sign: OPERATORS[sign[0].lower()], expression, flags=re.IGNORECASE)
    try:
        exact = _value(ast.parse(expression, mode="eval").body)
    except ZeroDivisionError:
        return True
    decimals, figure = len(result.partition(".")[2]), Fraction(_plain(result))
    difference = abs(exact - figure)
    # Rounded or cut off; hours of a clock; a difference whichever way round.
    return difference < Fraction(1, 10**decimals) or difference in (12, 24) or exact == -figure


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp):
        return ARITHMETIC[type(node.op)](_value(node.left), _value(node.right))
    return Fraction(node.value)


def _plain(figure: str) -> str:
    return re.sub(r"[£$€,]", "", figure)
