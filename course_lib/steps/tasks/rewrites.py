"""Checks of rewrites: what a model gave back instead of a better text."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

I_CANNOT = (
    r"(?:i|we)(?:'m (?:unable|not able)|"
    r" (?:cannot|can't|can not|am unable|am not able|won't|must decline|do not have|don't have))"
)
HELPING = r"(?:to )?(?:help|assist|provide|fulfil|comply|answer|write|create|generate|improve|rewrite|discuss)"
SORRY = r"(?:(?:i am|i'm|we are|we're) (?:\w+ )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately)"
# "I'm sorry, but …" and "I can't help …" refuse; "I'm sorry for your loss" and "I can't wait" do not.
REFUSALS = re.compile(
    rf"\W*(?:{SORRY},? but\b|{I_CANNOT} {HELPING}\b|{SORRY}[,.!]? {I_CANNOT}\b"
    r"|as an ai(?: \w+)?(?: model| assistant)\b|as an ai,|申し訳(?:ありません|ございません)が)",
    re.I,
)

# Talk about the rewriting instead of the rewrite: small models write "Here is a revised version of the answer:".
TALK = re.compile(
    r"\b(?:rewritten|revised|improved|enhanced|refined|original|better|updated|expanded|alternative|draft)"
    r" (?:answer|response|draft)\b"
    r"|\bversion of (?:the|your|this)(?: \w+)? (?:answer|response|draft|task)\b"
    r"|\b(?:harder|new|original|challenging|difficult) (?:version of the )?task\b|\boriginal question\b",
    re.I,
)

# The commonest words of languages in Latin letters, those left out that several share.
COMMON_WORDS = {
    "English": "the of and to is are it that for with you this be was from by not have they its",
    "French": "le la les des du et est une pour dans qui que sur pas avec ce il sont aux ou par plus",
    "German": "der die das und ist nicht ein eine zu den von mit sich auf für dem des es auch als wird sind",
    "Spanish": "el la los las de que y en un una es por con para del se su como más pero son lo",
    "Portuguese": "o os as de que e em um uma é por com para do da no na se mais como são não",
    "Italian": "il lo la gli le di che e è un una per con del della non sono più come nel si",
    "Dutch": "de het een van en is dat niet zijn op te voor met die er aan ook door wordt",
}
COMMON = {language: frozenset(words.split()) for language, words in COMMON_WORDS.items()}


def rewrite_fault(rewrite: str, original: str, prompt: str = "", given: Sequence[str] = ()) -> str | None:
    """Why a rewrite cannot be used, or None if it can.

    Args:
        rewrite: the model's text.
        original: what it was asked to rewrite.
        prompt: the whole prompt. Its own words must not come back; those of `given`, texts inside it, may.

    Returns:
        `empty`, `no change`, `prompt leaked` (it repeats the prompt or talks about the rewriting), `refusal`,
        `language switch`, `too long`, or None.
    """
    checks = {
        "empty": not re.search(r"\w", rewrite),
        "no change": _alike(rewrite, original),
        "prompt leaked": leaks(rewrite, prompt, [original, *given]) or _talks(rewrite, [original, *given]),
        "refusal": bool(REFUSALS.match(_straight(rewrite))) and not REFUSALS.match(_straight(original)),
        "language switch": _switches(rewrite, original, given),
        "too long": len(rewrite) > 4 * len(original) + 600,
    }
    return next((reason for reason, failed in checks.items() if failed), None)


def _straight(text: str) -> str:
    return text.replace("’", "'")


def _alike(a: str, b: str) -> bool:
    words_a, words_b = (re.findall(r"\w+", text.lower()) for text in (a, b))
    if words_a == words_b:
        return True
    matcher = SequenceMatcher(None, words_a, words_b, autojunk=False)
    # The quick ratio is never below the true one, which takes minutes on long texts of one word.
    return matcher.quick_ratio() > 0.95 and max(len(words_a), len(words_b)) < 2000 and matcher.ratio() > 0.95


def _talks(rewrite: str, given: Sequence[str]) -> bool:
    return bool(TALK.search(rewrite)) and not any(TALK.search(text) for text in given)


def leaks(rewrite: str, prompt: str, given: Sequence[str] = (), words: int = 5) -> bool:
    """Whether `rewrite` repeats a heading of `prompt`, or `words` words in a row of it that are in no text of `given`."""
    ours = _without(prompt, given)
    headings = {_bare(line) for line in ours.splitlines() if line.startswith("#")} - {""}
    known = {_label(line) for text in given for line in text.splitlines()}
    runs = {run for part in ours.split("\0") for run in _runs(part, words)}
    runs = runs.difference(*(_runs(text, words) for text in given))
    said = {_label(line) for line in rewrite.splitlines()}
    return bool(said & headings - known or _runs(rewrite, words) & runs)


def _without(prompt: str, given: Sequence[str]) -> str:
    """`prompt` with a break in place of each text of `given`, so that no run of words reaches from ours into one."""
    for text in sorted(filter(None, given), key=len, reverse=True):
        prompt = f"\n{prompt}\n".replace(f"\n{text}\n", "\n\0\n").strip("\n")
    return prompt


def _label(line: str) -> str:
    """What a line says, or what stands before its first colon: "**Better answer:** Paris" says "better answer"."""
    return _bare(line.partition(":")[0])


def _bare(line: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", line).lower()


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def _switches(rewrite: str, original: str, given: Sequence[str]) -> bool:
    """Whether `rewrite` is in another script or language than `original`; if that is too short to tell, than `given`."""
    script, languages = _script(rewrite), _languages(rewrite)
    expected = next(filter(None, map(_script, [original, *given])), None)
    spoken = next(filter(None, map(_languages, [original, *given])), set())
    other_script = bool(script and expected and script != expected)
    return other_script or bool(languages and spoken and not languages & spoken)


def _prose(text: str) -> str:
    return re.sub(r"```.*?(?:```|$)", "", text, flags=re.S)


def _script(text: str) -> str | None:
    """The writing system of most letters, such as LATIN or CYRILLIC; None for a word or two in Latin letters, or none."""
    letters = [char for char in unicodedata.normalize("NFKC", _prose(text)) if char.isalpha()][:5000]
    systems = Counter(unicodedata.name(char, "OTHER").split()[0] for char in letters)
    east = sum(systems.pop(name, 0) for name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"))
    name, count = max([*systems.items(), ("CJK", east)], key=lambda pair: pair[1])
    return name if count >= (20 if name == "LATIN" else 2) else None


def _languages(text: str) -> set[str]:
    """The languages of `COMMON` that `text` may be in; none if too few of its words tell."""
    words = re.findall(r"[^\W\d_]+", _prose(text).lower())[:2000]
    hits = {language: sum(word in common for word in words) for language, common in COMMON.items()}
    best = max(hits.values())
    return {name for name, count in hits.items() if count >= best / 2} if best >= max(3, len(words) / 10) else set()
