"""An audit of preference data: the faults that a training would learn or silently waste, each with its rows.

>>> from course_lib.audit import audit
>>> audit("preferences.jsonl").faults
{'identical completions': [Place(split='train', row=12)]}

Of the texts only numbers are kept, so memory hardly grows with the rows.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from course_lib.effects import Effect, EffectCounts
from course_lib.errors import InputError
from course_lib.faults import pair_faults
from course_lib.pairs import SIDES, Pair, number, reader
from course_lib.steps.base import Row
from course_lib.steps.filtering import key
from course_lib.steps.load import TEST_SPLITS, load_splits

SCALES = ((0, 1), (1, 5), (0, 5), (1, 10), (0, 10), (0, 100))
# Faults that only all rows together show come last where a row has several.
ACROSS = (
    "contradictory pair",
    "test prompt in train",
    "rating off the scale",
    "system prompt missing",
    "duplicate pair",
)
REPEATED = "repeated prompt"  # several pairs of one prompt may be meant


class Place(NamedTuple):
    """A row of a split; the first is 1."""

    split: str
    row: int

    def __str__(self) -> str:
        return f"{self.split} {self.row}"


@dataclass
class Audit:
    """What an audit found.

    `rows` of each split; `faults`, by name the rows that have them; `notes` likewise, which are no faults by
    themselves; `effects`: what a model could learn instead of quality.
    """

    rows: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[Place]] = field(default_factory=dict)
    notes: dict[str, list[Place]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)

    @property
    def reasons(self) -> dict[Place, str]:
        """Each row that has a fault, and its first."""
        return {place: fault for fault in reversed(self.faults) for place in self.faults[fault]}


def audit(source: Any, tokenizer: Any = None, max_length: int = 1024) -> Audit:
    """Find the faults of preference data.

    Args:
        source: whatever `steps.load.load_splits` takes, with rows in any form of `course_lib.pairs`. A column `split`
            counts for more than where a row stands.
        tokenizer: given, pairs are found of which prompt and longer side have more than `max_length` tokens.

    Raises:
        InputError: a source that cannot be read or is no preference data.
    """
    tally = _Tally(tokenizer, max_length)
    for place, row in _placed(source):
        tally.read(place, row)
    if not tally.rows:
        raise InputError("There are no rows to audit. Give a file or a dataset with at least one pair.")
    if tally.unknown and not tally.readers:
        raise tally.unknown
    return tally.result()


def remaining(source: Any, report: Audit) -> Iterator[tuple[Place, Row, str | None]]:
    """The rows of `source` again, each with the reason why it should leave, None for those that stay."""
    reasons = report.reasons
    return ((place, row, reasons.get(place)) for place, row in _placed(source))


def _placed(source: Any) -> Iterator[tuple[Place, Row]]:
    for split, rows in load_splits(source).items():
        for place, row in enumerate(rows, 1):
            named = row.get("split")
            yield Place(named if isinstance(named, str) and named else split, place), row


class _Tally:
    """What is kept of the rows: places by fault, counts by effect, and a few numbers for each pair."""

    def __init__(self, tokenizer: Any, max_length: int):
        self.tokenizer, self.max_length = tokenizer, max_length
        self.readers: dict[tuple[str, ...], Any] = {}
        self.unknown: InputError | None = None  # of the first row whose columns are no preference data
        self.rows: Counter = Counter()
        self.faults: dict[str, list[Place]] = defaultdict(list)
        self.places: list[Place] = []  # of the pairs
        self.digests = {part: array("q") for part in ("prompt", *SIDES)}
        self.ratings = {side: array("d") for side in SIDES}
        self.has_system = array("b")
        self.effects = EffectCounts()

    def read(self, place: Place, row: Row) -> None:
        self.rows[place.split] += 1
        pair = self._pair(row)
        if isinstance(pair, str):
            self.faults[pair].append(place)
            return
        for fault in pair_faults(pair):
            self.faults[fault].append(place)
        if self.tokenizer is not None and any(map(self._is_too_long, (pair.chosen, pair.rejected))):
            self.faults["too long"].append(place)
        self._keep(place, pair)
        self.effects.add(pair)

    def _pair(self, row: Row) -> Pair | str:
        columns = tuple(row)
        try:
            if columns not in self.readers:
                self.readers[columns] = reader(columns)
        except InputError as error:
            self.unknown = self.unknown or error
            return "no pair"
        try:
            return self.readers[columns](row)
        except InputError:
            return "unreadable"

    def _is_too_long(self, chat: list[dict[str, str]]) -> bool:
        if (
            sum(len(message["content"].encode("utf-8", "replace")) + 20 for message in chat)
            <= self.max_length
        ):
            return False  # a token has a byte at least
        return (
            len(self.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)) > self.max_length
        )

    def _keep(self, place: Place, pair: Pair) -> None:
        self.places.append(place)
        for part, text in zip(self.digests, (pair.prompt, *pair.texts), strict=True):
            self.digests[part].append(hash(key(text)))
        for side, rating in zip(SIDES, pair.ratings, strict=True):
            self.ratings[side].append(number(rating))
        self.has_system.append(any(message["role"] == "system" for message in pair.chosen))

    # --- what only all rows together show -----------------------------------------------------------------------------

    def result(self) -> Audit:
        notes = self._compare_pairs()
        self._compare_ratings()
        if 0.9 * len(self.places) <= sum(self.has_system) < len(self.places):
            lacking = (place for place, has in zip(self.places, self.has_system, strict=True) if not has)
            self.faults["system prompt missing"] += lacking
        order = [*(fault for fault in self.faults if fault not in ACROSS), *ACROSS]
        faults = {fault: list(dict.fromkeys(self.faults[fault])) for fault in order if self.faults.get(fault)}
        return Audit(dict(self.rows), faults, notes, self.effects.effects())

    def _compare_pairs(self) -> dict[str, list[Place]]:
        """Add contradictions, copies and leaks to the faults; the rows that repeat a prompt."""
        pairs = list(zip(*self.digests.values(), strict=True))
        placed = list(zip(pairs, self.places, strict=True))
        ways = set(pairs)
        tested = {prompt for (prompt, _, _), place in placed if is_test(place.split)}
        seen: set[tuple] = set()
        repeated = []
        for (prompt, chosen, rejected), place in placed:
            if prompt == NO_PROMPT:
                continue
            copy, again = (place.split, prompt, chosen, rejected), (place.split, prompt)
            if chosen != rejected and (prompt, rejected, chosen) in ways:
                self.faults["contradictory pair"].append(place)
            if copy in seen:
                self.faults["duplicate pair"].append(place)
            elif again in seen:
                repeated.append(place)
            if prompt in tested and not is_test(place.split):
                self.faults["test prompt in train"].append(place)
            seen.update((copy, again))
        return {REPEATED: repeated} if repeated else {}

    def _compare_ratings(self) -> None:
        """Add ratings far off the scale that nearly all others keep to."""
        known = sorted(value for ratings in self.ratings.values() for value in ratings if value == value)
        for low, high in SCALES if known else ():
            if bisect_right(known, high) - bisect_left(known, low) >= 0.95 * len(known):
                room = (high - low) / 2
                for place, *ratings in zip(self.places, *self.ratings.values(), strict=True):
                    if any(rating < low - room or rating > high + room for rating in ratings):
                        self.faults["rating off the scale"].append(place)
                return


NO_PROMPT = hash(key(""))


def is_test(split: str) -> bool:
    return split.lower().startswith(TEST_SPLITS)
