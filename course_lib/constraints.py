"""What an English instruction asks of the form of an answer, as far as code can check it.

"In exactly two sentences", "as bullet points", "without the letter e": whether an answer keeps to such a constraint needs no
judge and no model (verifiable instructions: Zhou et al. 2023, https://arxiv.org/abs/2311.07911). Constraints are recognised
by their wording; where it is not a plain case, nothing is claimed.
"""

import json
import re
from collections.abc import Callable, Iterator

Constraint = tuple[str, Callable[[str], bool]]  # what is asked for, and whether a text has it

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBER = rf"(\d{{1,3}}|{'|'.join(WORDS)}|a single)"
FEWER = r"under|fewer than|less than"
AT_MOST = rf"{FEWER}|at most|no more than|no longer than|up to|(?:a )?max(?:imum)?(?: of)?|within"
OR_LESS = r" or fewer| or less| at most|(?:,? and)? no more| max(?:imum)?\b"
# Around a number: it is for a part of the answer, it is not exact, or it counts what is there already.
BEFORE = (
    r"\b(?:each|per|every|at least|about|around|roughly|first|last|all|these|those|following|then|followed|and an?)\b|\bor$"
)
AFTER = r"\b(?:each|per|apiece|or so|or more|or phrase|comment|title|logline)\b"
WORDS_OF_A_KIND = r"^(?:that|which|meaning)\b"  # "two words that mean happy" may be told with more words than two
LIST_LINE = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,2}[.)])[ \t]+\S", re.MULTILINE)
ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e|a\.m|p\.m|approx|No|[A-Z])\.|(?<=\d)\.(?=\d)")
CONTRACTION = r"(?i)\w(?:n['’]t|['’](?:re|ve|ll|m|d))\b|\b(?:it|that|there|here|what|who|he|she|let)['’]s\b"
ANSWERS = "name|word|year|date|answer|letter|result|code|formula|term"


def broken_constraints(instruction: str, text: str) -> list[str]:
    """The constraints of `instruction` that `text` does not keep to, in words; often none."""
    return [asked for asked, kept in constraints(instruction) if not kept(text.strip())]


def constraints(instruction: str) -> Iterator[Constraint]:
    """The constraints on form that are recognised in `instruction`, each with its check."""
    # What stands in quotation marks, if it is more than a letter, or below a colon, is material.
    quoted = r'"[^"]{4,}"|“[^“”]{4,}”|(?<!\w)[\'‘][^\'‘’]{4,}[\'’](?!\w)'
    own_words = re.sub(rf"{quoted}|:[ \t]*\n.*", '""', instruction, flags=re.DOTALL)
    asked = " ".join(own_words.split())
    for find in (_counts, _layouts, _marks, _bare):
        yield from find(asked)


def _counts(asked: str) -> Iterator[Constraint]:
    for unit, count in UNITS.items():
        adjectives = r"(?:(?:short|simple|plain|complete|full) )*"
        shape = rf"(?:({AT_MOST}) )?(?<![\w-]){NUMBER}(?: or fewer)?[ -]{adjectives}{unit}s?\b({OR_LESS})?"
        for found in re.finditer(shape, asked, re.IGNORECASE):
            before, after = asked[: found.start(2)][-60:].split()[-4:], asked[found.end() :][:60].split()[:3]
            of_a_kind = unit == "word" and _in(WORDS_OF_A_KIND, " ".join(after))
            if of_a_kind or _in(BEFORE, " ".join(before)) or _in(AFTER, " ".join(after)):
                continue
            wanted = _number(found[2])
            if found[1] or found[3] or "or fewer" in found[0].lower():
                most = wanted - _in(FEWER, found[1] or "")
                yield f"at most {most} {unit}s", lambda text, n=most, c=count: c(text) <= n
            else:
                yield f"{wanted} {unit}{'s' if wanted > 1 else ''}", lambda text, n=wanted, c=count: c(text) == n


def _layouts(asked: str) -> Iterator[Constraint]:
    if _in(r"\b(?:no|not|without)(?: any| a| use)? (?:bullet|list|numbered)|\bin (?:flowing )?prose\b", asked):
        yield "no list", lambda text: not LIST_LINE.search(text)
    elif _in(r"\bnumbered (?:list|steps)\b", asked):
        yield "a numbered list", lambda text: len(re.findall(r"^[ \t]*\d{1,2}[.)]", text, re.MULTILINE)) > 1
    elif _in(r"\bbullet(?:s|ed|[- ](?:point|list)s?)\b", asked):
        yield "bullet points", lambda text: len(re.findall(r"^[ \t]*[-*•–][ \t]", text, re.MULTILINE)) > 1
    if _in(r"(?<!\.)\bJSON\b", asked) and not _in(r"\b(?:code|function|script|program|Python|JavaScript)\b", asked):
        yield "JSON", _is_json
    if _in(r"\bone per line\b|\beach on (?:its|a|a new|a separate) (?:own )?line\b|\bon separate lines\b", asked):
        yield "one per line", lambda text: "\n" in text
    if _in(r"\b(?:comma[- ]separated|separated by commas)\b", asked) and not _in("CSV", asked):
        yield "separated by commas", lambda text: "," in text and "\n" not in text
    for form, lines in {"haiku": 3, "limerick": 5}.items():
        if _in(rf"\b(?:a|one) {form}\b", asked) and not _in(r"\bwhat(?: is|'s|’s)\b", asked):
            yield f"{lines} lines", lambda text, n=lines: _lines(text) == n


def _marks(asked: str) -> Iterator[Constraint]:
    letter = (
        r"(?:without(?: using)?|not (?:use|contain)|n['’]t (?:use|contain)|avoid(?:ing|s)?|no) the letter ['‘\"“]?([a-z])\b"
    )
    if found := re.search(letter, asked, re.IGNORECASE):
        yield f"no letter {found[1]}", lambda text: found[1].lower() not in text.lower()
    for name, (wording, mark) in UNWANTED.items():
        if _in(rf"\b(?:no|without|avoid|not use|n['’]t use)(?: any| using)* {wording}", asked):
            yield f"no {name}", lambda text, mark=mark: not re.search(mark, text)
    if _in(r"\b(?:upper ?case|all caps|(?:all|block) capitals|capital letters)\b", asked):
        yield "upper case", lambda text: text == text.upper()
    if _in(r"\b(?:lower ?case|no capitals?)\b", asked):
        yield "lower case", lambda text: text == text.lower()


def _bare(asked: str) -> Iterator[Constraint]:
    if _in(r"\b(?:just|only) (?:the |a |one )?(?:number|figure|digits?)\b|\b(?:number|figure|digits?) (?:only|alone)\b", asked):
        yield "just a number", lambda text: _words(text) == 1 or bool(re.fullmatch(r"\W*\d[\d.,:/ ]*\S{0,4}", text))
    elif _in(rf"\b(?:just|only) (?:the |a )?(?:{ANSWERS})\b(?! (?:of|for|from|to))|\b(?:{ANSWERS}) only\b", asked):
        yield "nothing but the answer", lambda text: _words(text) <= 6 or "\n" in text or "=" in text
    if _in(r"\b(?:answer|reply|respond|say)(?: with| just| only)* yes or no\b(?! by)|^yes or no\b|\byes or no[?:]", asked):
        yield "yes or no", lambda text: _in(r"^\W*(?:yes|no)\b", text)


def _in(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else WORDS.index(word.lower()) + 1 if word.lower() in WORDS else 1


def _words(text: str) -> int:
    return len(re.findall(r"\w+(?:['’.,:-]\w+)*", text))


def _sentences(text: str) -> int:
    return len(re.findall(r"[^\s.!?…][^.!?…]*", ABBREVIATION.sub("", text)))


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines() if not line.startswith("```"))


def _paragraphs(text: str) -> int:
    return len([part for part in re.split(r"\n[ \t]*\n", text) if part.strip()])


def _items(text: str) -> int:
    return len(LIST_LINE.findall(text))


def _is_json(text: str) -> bool:
    try:
        json.loads(re.sub(r"^```(?:json)?|```$", "", text).strip())
    except (ValueError, RecursionError):
        return False
    return True


UNITS = {"sentence": _sentences, "word": _words, "line": _lines, "paragraph": _paragraphs, "bullet point": _items}
UNWANTED = {
    "exclamation marks": ("exclamation marks?", "!"),
    "contractions": ("contractions?", CONTRACTION),
    "digits": ("(?:digits|numbers|numerals)", r"\d"),
    "code": ("code", r"```|\bdef |\bprint\(|[{};]\n"),
    "emojis": ("emojis?", "[\U0001f300-\U0001faff]"),
}
