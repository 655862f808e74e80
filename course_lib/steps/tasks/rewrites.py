"""Checks of rewrites: what a model gave back instead of a better text."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from course_lib.steps.tasks.languages import names_a_language, switches

I_CANNOT = (
    r"(?:(?:i|we)(?:(?:'m| am) (?:unable|not able)| (?:cannot|can't|can not|won't|must decline|do not have|don't have))"
    r"|i(?:(?:'m| am) not (?:allowed|permitted|going|willing)|(?:'d| would) (?:rather|prefer) not"
    r"| will not| refuse| must refuse| decline| have to (?:refuse|decline)))"
)
HELPING = (
    r"(?:to )?(?:(?:help(?! but)|assist|provide|fulfill?|comply|answer|respond|engage|write|create|generate|improve|rewrite"
    r"|discuss)\b|(?:do|say|recommend|share) (?:that|this|so|it)\W*$|(?:any )?personal (?:opinion|feeling|belief|preference)s\b"
    r"|(?:process|complete|perform|accept) (?:this|that|the|your) (?:request|task|question)\b"
    r"|(?:give|offer|share) (?:[\w-]+ ){0,2}(?:advice|opinions?|information|recommendations?)\b)"
)
SORRY = r"(?:(?:i am|i'm|we are|we're) (?:\w+ )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately|i'm afraid|i am afraid)"
UNFIT = r"it(?:'s| is| would) (?:not (?:be )?|(?:be )?in)appropriate for me to\b"
MODEL = r"(?:language model|ai model|ai assistant|virtual assistant|chat ?bot|artificial intelligence)"
# "I'm sorry, but …" and "I can't help …" refuse; "I'm sorry for your loss" and "I can't wait" do not.
REFUSALS = re.compile(
    rf"\W*(?:{SORRY},? but\b|(?:no[,.!] )?(?:{SORRY}[,.!]? (?:that )?)?(?:{I_CANNOT} {HELPING}|{UNFIT})"
    rf"|as an ai(?: \w+)?(?: model| assistant)\b|as an ai,|as an? (?:\w+ ){{0,2}}{MODEL},? i\b"
    rf"|as an? (?:\w+ )?assistant,? {I_CANNOT}\b|i(?: must| have to)? (?:refuse|decline)\W*$"
    r"|i(?:'m not| am not| do not feel| don't feel) comfortable (?:\w+ing|with)\b"
    rf"|(?:i am|i'm) (?:just |only )?an? (?:\w+ ){{0,2}}(?:{MODEL}|ai)\b[^.!?\n]* (?:not|cannot|can't|don't|unable)\b"
    r"|je suis désolée?,? mais|es tut mir leid,? aber|lo siento,? pero|申し訳(?:ありません|ございません)が)",
    re.I,
)

# Talk about the rewriting instead of the rewrite: small models write "Here is a revised version of the answer:".
TALK = re.compile(
    r"\b(?:rewritten|revised|improved|enhanced|refined|original|better|updated|expanded|alternative|draft)"
    r" (?:answer|response|draft)\b"
    r"|\bversion of (?:the|your|this)(?: \w+)? (?:answer|response|draft|task)\b"
    r"|\b(?:harder|new|original|challenging|difficult) (?:version of the )?task\b|\boriginal question\b"
    r"|\A\W*(?:\w+(?: course)?\W+)?(?:here(?:'s| is| are)|this is) (?:\w+ ){1,3}(?:answer|response)(?: to \w+ \w+)?\W{0,3}:"
    r"|\A\W*(?:\w+(?: course)?\W+)?here(?:(?:'s| is) an? (?:[\w,-]+ ){0,5}version| you go)\W{0,3}(?::|\n)"
    r"|\b(?:rewritten|revised|improved|better|enhanced) (?:text|version|sentence|paragraph)\W{0,3}:",
    re.I,
)

# Labels of chats and of fine-tuning data, which models know by heart. "Answer: 42" may end a calculation.
TURN = r"(?:assistant|user|human|instruction|response)"
LABEL = rf"(?:(?:final|best|improved|new|revised|rewritten|model|sample) )?(?:{TURN}|answer|completion|rewrite)"
LABELS = re.compile(
    rf"\A(?!\s*[-*•] )(?:<\|\w+\|>|\W)*({LABEL}|improved|revised)\W*?(?::|\n)"
    rf"|^(?:\*\*|[# ]|<\|\w+\|>)*({TURN})\**:|^#+ *({TURN})\W*$",
    re.I | re.M,
)
DIALOGUE = re.compile(r"\b(?:dialogue|dialog|conversation|chat|transcript|script|scene|interview|quiz|riddle|faq)s?\b", re.I)

AGAIN = re.compile(r"\b(?:repeat|refrain|chorus|chant|lyrics|song|poem)|\b(?:write|say|print|type)\b.{0,80}\btimes\b", re.I)
STUCK = re.compile(r"([^\W\d_]{1,20}?)\1{9,}")


def rewrite_fault(rewrite: str, original: str, prompt: str = "", given: Sequence[str] = ()) -> str | None:
    """Why a rewrite cannot be used, or None if it can.

    Args:
        rewrite: the model's text.
        original: what it was asked to rewrite.
        prompt: the whole prompt. Its own words must not come back; those of `given`, texts inside it, may.

    Returns:
        `empty`, `no change`, `prompt leaked` (it repeats the prompt or its instruction, is labelled as an answer, or talks
        about the rewriting), `refusal`, `language switch`, `too long`, `repetition`, or None.
    """
    known = [original, *given]
    leaked = leaks(rewrite, prompt, known) or _echoes(rewrite, prompt, given)
    checks = {
        "empty": not re.search(r"\w", rewrite),
        "no change": _alike(rewrite, original),
        "prompt leaked": leaked or _talks(rewrite, known) or _labelled(rewrite, known),
        "refusal": bool(REFUSALS.match(_straight(rewrite))) and not REFUSALS.match(_straight(original)),
        "language switch": not any(names_a_language(text) for text in given if text != original) and switches(rewrite, known),
        "too long": len(rewrite) > 4 * len(original) + 300,
        "repetition": _repeats(rewrite) and not any(AGAIN.search(text) or _repeats(text) for text in known),
    }
    return next((reason for reason, failed in checks.items() if failed), None)


def _straight(text: str) -> str:
    return text.replace("’", "'")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _alike(a: str, b: str) -> bool:
    words_a, words_b = _words(a), _words(b)
    if words_a == words_b:
        return True
    matcher = SequenceMatcher(None, words_a, words_b, autojunk=False)
    # The quick ratio is never below the true one, which takes minutes on long texts of one word.
    return matcher.quick_ratio() > 0.95 and max(len(words_a), len(words_b)) < 2000 and matcher.ratio() > 0.95


def _talks(rewrite: str, given: Sequence[str]) -> bool:
    return bool(TALK.search(_straight(rewrite))) and not any(TALK.search(_straight(text)) for text in given)


def _labelled(rewrite: str, given: Sequence[str]) -> bool:
    """Whether a label such as "Answer:" or "# Response" stands in it, for which no text of `given` is a model."""
    labels = {next(filter(None, match.groups())).lower() for match in LABELS.finditer(rewrite)}
    modelled = {
        label for label in labels for text in given if re.search(rf"\b{label}\W{{0,3}}:|^\W*{label}\W*$", text, re.I | re.M)
    }
    return bool(labels - modelled) and not any(DIALOGUE.search(text) for text in given)


def _echoes(rewrite: str, prompt: str, given: Sequence[str]) -> bool:
    """Whether `rewrite` is nothing but a text of `given` that stands in the prompt, once or several times."""
    said = _words(rewrite)
    asked = [_words(text) for text in given if text in prompt or not prompt]
    # A greeting answers a greeting.
    return any(len(words) > 2 and said == words * (len(said) // len(words)) for words in asked)


def _repeats(text: str) -> bool:
    """Whether a third of its runs of three words, or of six signs in Chinese and Japanese, have been there before."""
    prose = re.sub(r"```.*?(?:```|$)", "", text, flags=re.S).lower()
    signs = r"[\u3040-\u30ff\u3400-\u9fff]"
    words = re.findall(rf"{signs}|\w+", prose)
    length = 6 if re.search(signs, prose) else 3
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    runs = [run for run in runs if not all(word.isdigit() for word in run)]
    return bool(STUCK.search(prose)) or len(runs) > 1 and len(set(runs)) < len(runs) * 2 / 3


def leaks(rewrite: str, prompt: str, given: Sequence[str] = (), words: int = 5) -> bool:
    """Whether `rewrite` repeats a heading or a sentence of `prompt`, or `words` words in a row of it, not those of `given`."""
    ours = _without(prompt, given)
    headings = {_bare(line) for line in ours.splitlines() if line.startswith("#")} - {""}
    known = {_label(line) for text in given for line in text.splitlines()}
    runs = {run for part in ours.split("\0") for run in _runs(part, words)}
    runs = runs.difference(*(_runs(text, words) for text in given))
    said = {_label(line) for line in rewrite.splitlines()}
    sentences = _sentences(ours).difference(*map(_sentences, given))
    return bool(said & headings - known or _runs(rewrite, words) & runs or _sentences(rewrite) & sentences)


def _without(prompt: str, given: Sequence[str]) -> str:
    """`prompt` with a break in place of each text of `given`, so that no run of words reaches from ours into one."""
    for text in sorted(filter(None, given), key=len, reverse=True):
        prompt = f"\n{prompt}\n".replace(f"\n{text}\n", "\n\0\n").strip("\n")
    return prompt


def _label(line: str) -> str:
    """What a line says, or what stands before its first colon: "**Better answer:** Paris" says "better answer"."""
    return _bare(line.partition(":")[0])


def _bare(line: str) -> str:
    letters = re.search(r"[^\W_](?:.*[^\W_])?", line, re.S)
    return letters[0].lower() if letters else ""


def _sentences(text: str) -> set[tuple[str, ...]]:
    """Sentences of four words or more; shorter ones may be anybody's."""
    return {tuple(words) for part in re.split(r"[.!?:\n\0]", text) if len(words := _words(part)) > 3}


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
