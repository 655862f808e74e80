"""Faults of a preference pair that it shows by itself."""

import re
from collections.abc import Callable, Iterator

from course_lib.pairs import Pair, number, pair_fault
from course_lib.steps.filtering import key, repeats, similarity, words
from course_lib.steps.tasks.rewrites import openings, switches_language

TEMPLATE_TOKEN = re.compile(
    r"<\|\w[\w ]{1,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|\A<s>|</s>\s*\Z"
)
ROLE_LABEL = re.compile(
    r"^(?:#+ ?)?(?:human|user|assistant|system) ?:|^#+ (?:instruction|response)\b:?", re.I | re.M
)
DIALOGUE = re.compile(
    r"dialog|conversation|chat|script|interview|transcript|role.?play|screenplay|log\b", re.I
)
KIND = r"(?:re-?written|improved|revised|enhanced|refined|better|final|new|given|created|evolved|updated) "
NAME = r"(?:responses?|answers?|versions?|prompts?|instructions?|completions?|rewrites?|texts?)"
# A heading of a prompt, or an announcement, where a text begins.
HEADING = re.compile(
    rf"\W*(?:#+|\[|\*\*) ?(?:the |your )?(?:{KIND})?{NAME} ?(?:#+|\]|\*\*|:|\n)"
    rf"|(?:\w+[,!] )?here(?:['’]s| is| are) (?:the|an?|my|your) [^.\n]{{0,40}}?\b{NAME}\b[^.\n]{{0,60}}:"
    rf"|{KIND}{NAME}:",
    re.I,
)
EVOLUTION = re.compile(
    rf"#(?:the )?(?:{KIND})?{NAME}#|\brewrit(?:e|ing) the (?:given|following|above) {NAME}"
    rf"|\bact as an? \w+ (?:re-?writer|creator)\b",
    re.I,
)
RATING_FORM = re.compile(
    r"^\W*(?:(?:overall )?(?:rating|score)|rationale)\W{0,3}: ?\S|\[\[[\dAB](?:\.\d+)?\]\]|\[RESULT\] ?\d",
    re.I | re.M,
)
RATING = re.compile(r"\b(?:rat(?:e|es|ed|ing)|scor|review|feedback|grad(?:e|ing)|evaluat|judg)", re.I)
# Common words of English that are none of other languages.
ENGLISH = set("the and with what how why which write explain you your this are does give".split())  # noqa: SIM905
ITEM = re.compile(r"\s*(?:[-*•–+]|\d{1,3}[.)]|[a-zA-Z][.)])\s")
NO_SENTENCE = re.compile(r"\s*(?:#|\||>|```)|\S+\Z|.*(?:https?:|[{}=<>\\|])|.*  \S")
# Words after which an English sentence goes on.
HANGING = re.compile(
    "an?|the|of|to|and|or|but|nor|that|which|who|whose|as|is|are|was|were|be|been|has|have|had|will|would|can|could|should"
    "|may|might|must|into|because|if|when|while|your|our|their|its|my"
)
CLOSING = re.compile(
    r"\b(?:regards|wishes|thanks|sincerely|faithfully|truly|love|hugs|cheers|yours|warmly|Grüße|Dank)\b", re.I
)


def is_cut_off(text: str) -> bool:
    """Whether a text ends inside a sentence, or inside a block of code.

    Only texts whose other sentences or items end with a stop are judged by a missing one: a word, a title or a line
    of verse needs none.
    """
    if text.count("```") % 2:
        return True
    *earlier, last = text.rstrip().splitlines() or [""]
    if last.endswith(","):
        return len(words(last)) > 4
    if not re.search(r"(?:\A|\s)[\w'’-]*\w\Z", last) or NO_SENTENCE.match(last):
        return False
    last_words = words(last)
    if len(last_words) > 3 and HANGING.fullmatch(last_words[-1]):
        return True
    if ITEM.match(last):
        items = [line.rstrip() for line in earlier if ITEM.match(line)]
        return bool(items) and all(not item[-1:].isalnum() for item in items) and len(last_words) > 2
    *sentences, rest = re.split(
        r"[.!?][\"'”’)\]]*\s|[。！？]", re.sub(r"\b\d+[.)]|\b\w\.", "", text.rstrip())
    )
    return bool(sentences) and len(words(rest)) > 1 and len(last_words) > 4 and not CLOSING.search(rest)


def switches(text: str, prompt: str) -> bool:
    """`switches_language`, told at once where prompt and text are plainly English."""
    start, question = text[:600], prompt[:600]
    english = [len(ENGLISH.intersection(part.lower().split())) for part in (start, question)]
    plainly = english[0] > 1 and english[1] > 0
    return not plainly and switches_language(start, [question])


# Fault -> whether a text has it, given the prompt that it answers.
TEXT_FAULTS: dict[str, Callable[[str, str], bool]] = {
    "cut off": lambda text, prompt: is_cut_off(text),
    "prompt leaked": lambda text, prompt: bool(
        HEADING.match(text) or EVOLUTION.search(text) or repeats(text, prompt)
    ),
    "rating form": lambda text, prompt: bool(RATING_FORM.search(text)) and not RATING.search(prompt),
    "chat tokens": lambda text, prompt: any(token not in prompt for token in TEMPLATE_TOKEN.findall(text)),
    "role labels": lambda text, prompt: bool(ROLE_LABEL.search(text)) and not DIALOGUE.search(prompt),
    "language switch": switches,
}


def pair_faults(pair: Pair) -> Iterator[str]:
    """The names of all faults of a pair."""
    chosen, rejected = pair.texts
    if fault := pair_fault(pair):
        yield fault
    elif similarity(chosen, rejected) > 0.9:
        yield "identical completions" if plain(chosen) == plain(rejected) else "too similar"
    if number(pair.ratings[0]) < number(pair.ratings[1]):
        yield "rated below rejected"
    yield from (
        fault for fault, has in TEXT_FAULTS.items() if any(has(text, pair.prompt) for text in pair.texts)
    )
    systems = [message["content"] for message in pair.chosen if message["role"] == "system"]
    if len(systems) > 1 or any(len(system) > 20 and system in pair.prompt for system in systems):
        yield "system prompt twice"
    if pair.system_prompt and not any(pair.system_prompt in system for system in systems):
        yield "system prompt missing"


def plain(text: str) -> str:
    """The `key` of a text with straight apostrophes."""
    return key(text.replace("’", "'"))


def is_refusal(opening: str) -> bool:
    """Whether a text whose `plain` beginning is given refuses to answer."""
    return opening.startswith(tuple(openings()["refusal"]))
