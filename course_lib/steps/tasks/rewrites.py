"""Checks of rewrites: what a model gave back instead of a better text.

A leaked prompt and talk about the rewriting, the commonest faults of small models, are recognised wherever they stand;
refusals, labels and announcements ("Here is the answer:") by how they begin (`data/rewrite_openings.json`).
"""

import json
import re
from collections.abc import Sequence
from functools import cache

from course_lib.llms.prompts import encodable
from course_lib.paths import DATA
from course_lib.steps.filtering import similarity

TALK = re.compile(
    r"\b(?:rewritten|revised|improved|enhanced|refined|original|better|updated|expanded|alternative|draft)"
    r" (?:answer|response|draft)\b|\boriginal question\b|\bversion of (?:the|your|this)(?: \w+)? (?:answer|response)\b"
    r"|\b(?:harder|new|original|challenging|difficult) (?:version of the )?task\b",
    re.I,
)
CODE = re.compile(r"```.*?(?:```|$)", re.S)
# Texts that may hold another language, the same words again or the labels of a chat, because they are asked for.
OTHER_LANGUAGE = re.compile(
    r"(?i:translat|languages?\b|\bmeans?\b)|\b[A-Z][a-z]+(?:ese|ish|ian|man)\b|French|Dutch|Czech|Greek|Latin|Thai|Hindi"
)
AGAIN = re.compile(
    r"\b(?:repeat|refrain|chorus|chant|lyrics|song|poem)|\b(?:write|say|print|type)\b.{0,80}\btimes\b", re.I
)
STUCK = re.compile(r"([^\W\d_]{1,20}?)\1{9,}")
SIGN = r"[\u3040-\u30ff\u3400-\u9fff]"  # of Chinese or Japanese, which have no spaces between words
FEWEST_LETTERS, SURE = 20, 0.8  # what a text needs to tell its language


def rewrite_fault(rewrite: str, original: str, prompt: str = "", given: Sequence[str] = ()) -> str | None:
    """Why a rewrite cannot be used, or None if it can.

    Args:
        rewrite: the model's text.
        original: what it was to rewrite.
        prompt: the whole prompt. Its own words must not come back; those of `given`, texts inside it, may.

    Returns:
        `empty`, `no change`, `prompt leaked` (it repeats the prompt or its instruction, or begins with a label or with
        talk about the rewriting), `refusal`, `language switch`, `too long`, `repetition`, or None.
    """
    known, words = [original, *given], _words(rewrite)
    # Nothing but a text of the prompt, once or several times; a greeting may answer a greeting.
    inside = [_words(text) for text in given if text in prompt or not prompt]
    echoes = any(len(text) > 2 and words == text * (len(words) // len(text)) for text in inside)
    talks = TALK.search(rewrite) and not any(map(TALK.search, known))
    leaked = talks or echoes or leaks(rewrite, prompt, known) or _opens("prompt leaked", rewrite, known)
    checks = {
        "empty": not re.search(r"\w", rewrite),
        "no change": words == _words(original) or similarity(rewrite, original) > 0.95,
        "prompt leaked": leaked,
        "refusal": _opens("refusal", rewrite, [original]),
        "language switch": switches_language(rewrite, known),
        "too long": len(rewrite) > 4 * len(original) + 300,
        "repetition": _repeats(rewrite) and not any(AGAIN.search(text) or _repeats(text) for text in known),
    }
    return next((reason for reason, failed in checks.items() if failed), None)


def leaks(rewrite: str, prompt: str, given: Sequence[str] = (), words: int = 5) -> bool:
    """Whether `rewrite` repeats a heading or a sentence of `prompt`, or `words` words in a row of it, not of `given`."""
    for text in sorted(filter(None, given), key=len, reverse=True):
        # A break in its place, so that no run of words reaches from ours into a given text.
        prompt = f"\n{prompt}\n".replace(f"\n{text}\n", "\n\0\n").strip("\n")
    headings = {_bare(line) for line in prompt.splitlines() if line.startswith("#")} - {""}
    ours = _sentences(prompt).union(*(_runs(part, words) for part in prompt.split("\0")))
    theirs = set().union(*(_runs(text, words) | _sentences(text) for text in given))
    label_leaks = _labels(rewrite) & headings - _labels(*given)
    return bool(label_leaks or (_runs(rewrite, words) | _sentences(rewrite)) & ours - theirs)


def _bare(line: str) -> str:
    """What a line says without marks: "**Better answer**" says "better answer"."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", line).lower()


def _labels(*texts: str) -> set[str]:
    """What stands before the first colon of each line."""
    return {_bare(line.partition(":")[0]) for text in texts for line in text.splitlines()}


def _sentences(text: str) -> set[tuple[str, ...]]:
    """Sentences of four words or more; shorter ones may be anybody's."""
    return {tuple(words) for part in re.split(r"[.!?:\n\0]", text) if len(words := _words(part)) > 3}


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _opens(fault: str, rewrite: str, known: Sequence[str]) -> bool:
    """Whether `rewrite` begins as a fault does, and no known text holds the same words."""
    # "**Answer:**" begins with "answer:", "# Answer" with "answer" and the end of the line.
    marks = r"^(?!\s*[-*•] )(?:<\|\w+\|>|\W)+|[*_]+|[)\]]+(?=\n)"
    plain = re.sub(marks, "", f"{rewrite[:200]}\n".replace("’", "'")).lower()
    opening = next((words for words in openings()[fault] if plain.startswith(words)), None)
    held = [text.replace("’", "'").lower() for text in known]
    return opening is not None and not any(opening.strip() in text for text in held)


@cache
def openings() -> dict[str, list[str]]:
    """How rewrites of a fault begin, in lower case."""
    return json.loads((DATA / "rewrite_openings.json").read_text(encoding="utf-8"))


def switches_language(rewrite: str, known: Sequence[str]) -> bool:
    """Whether `rewrite` is in a language that no text of `known` is in and none asks for; both must be sure."""
    expected = {_language(text) for text in [*known, "\n".join(known)]} - {None}
    asked_for = any(OTHER_LANGUAGE.search(text) for text in known)
    return bool(expected) and not asked_for and _language(rewrite) not in {*expected, None}


def _language(text: str) -> str | None:
    """The ISO 639-1 code of the language that `text` is surely in; None if it is too short to tell or mixed."""
    prose = encodable(CODE.sub(" ", text))
    # A letter outside ASCII tells more than others.
    letters = sum(1 if letter.isascii() else 4 for letter in prose if letter.isalpha())
    language, confidence = _identifier().classify(prose) if letters >= FEWEST_LETTERS else (None, 0)
    return language if confidence > SURE else None


@cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _repeats(text: str) -> bool:
    """Whether a third of its runs of three words, or of six signs in Chinese and Japanese, have been there before."""
    prose = CODE.sub("", text).lower()
    words, length = re.findall(rf"{SIGN}|\w+", prose), 6 if re.search(SIGN, prose) else 3
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    runs = [run for run in runs if not all(word.isdigit() for word in run)]
    return bool(STUCK.search(prose)) or len(runs) > 1 and len(set(runs)) < len(runs) * 2 / 3
