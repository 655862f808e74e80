"""Leaving rows out, each with its reason."""

import unicodedata
from collections.abc import Callable

from course_lib.steps.base import Row, Step, StepInput, StepOutput, dropped

# Scripts without spaces between words, as the names of their letters begin: a letter counts as a word.
SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


class FilterRows(Step):
    """Drops the rows for which `keep(row)` is false; they are kept apart and counted under `reason`."""

    keep: Callable[[Row], bool]
    reason: str
    columns: list[str] | None = None

    @property
    def inputs(self) -> list[str]:
        return self.columns or []

    def process(self, rows: StepInput) -> StepOutput:
        yield [row if self.keep(row) else dropped(row, self.reason) for row in rows]


def key(text: str) -> str:
    """What counts of a text when it is compared: not its case, spacing or kind of characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def repeats(text: str, prompt: str) -> bool:
    """Whether `text` begins with the whole `prompt`, if that is more than a few words."""
    return len(prompt) > 20 and text.lstrip().startswith(prompt.strip())


def similarity(a: str, b: str) -> float:
    """How much of two texts is shared, 0 to 1: twice the words that both have in one order, over all words.

    Case, spacing and punctuation do not count; in scripts without spaces, letters count instead of words.
    """
    words_a, words_b = words(a), words(b)
    total = len(words_a) + len(words_b)
    return 2 * common_subsequence(words_a, words_b) / total if total else 1.0


def words(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).casefold().translate(_letters).split()


class _Letters(dict):
    """For `str.translate`: punctuation becomes space, and letters of scripts without spaces stand alone."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        alone = unicodedata.name(letter, "").startswith(SPACELESS)
        separates = unicodedata.category(letter)[0] in "PZC"
        self[code] = " " if separates else f" {letter} " if alone else letter
        return self[code]


_letters = _Letters()


def common_subsequence(a: list[str], b: list[str]) -> int:
    """The length of the longest common subsequence, by numbers as rows of bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << position
    every = (1 << len(a)) - 1
    unmatched = every
    for word in b:
        matches = unmatched & places.get(word, 0)
        unmatched = (unmatched + matches | unmatched - matches) & every
    return len(a) - unmatched.bit_count()
