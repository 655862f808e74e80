"""What a model could learn from preference pairs instead of quality: length, place, writer, first words, refusals."""

from collections import defaultdict
from dataclasses import dataclass

from course_lib.faults import is_refusal, plain
from course_lib.judging import wilson_interval
from course_lib.pairs import Pair

FEWEST, MOST = 10, 3  # pairs that an effect by a name needs, and how many such effects are told


@dataclass
class Effect:
    """How often the chosen text is the one that `name` describes, of the `pairs` in which one text alone is it.

    0.5 is chance; `low` and `high` are a 95% interval.
    """

    name: str
    pairs: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, chosen: int, rejected: int) -> "Effect":
        pairs = chosen + rejected
        return cls(name, pairs, chosen / pairs, *wilson_interval(chosen, pairs))

    @property
    def is_strong(self) -> bool:
        """Whether a model could learn it in place of quality: surely less than 40% or more than 60%."""
        return self.low > 0.6 or self.high < 0.4


class EffectCounts:
    """By kind of effect and its name, in how many pairs the chosen text has it alone, and the rejected one."""

    def __init__(self):
        self.counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))

    def add(self, pair: Pair) -> None:
        openings = [plain(text[:200]) for text in pair.texts]
        self._compare("the longer text", [len(text) for text in pair.texts])
        self._compare("a refusal", [is_refusal(opening) for opening in openings])
        places = [completion.place for completion in pair.known]
        if None not in places:
            self._compare("the text shown earlier", [-place for place in places])
        self._compare_names("written by", [completion.model for completion in pair.known])
        self._compare_names("begins with", [" ".join(opening.split()[:2]) for opening in openings])

    def _compare(self, name: str, values: list[float], kind: str = "") -> None:
        if values[0] != values[1]:
            self.counts[kind][name][values[0] < values[1]] += 1

    def _compare_names(self, kind: str, names: list[str | None]) -> None:
        if names[0] != names[1] and all(names):
            for name in names:
                self._compare(f"{kind} {name}", [other == name for other in names], kind)

    def effects(self) -> list[Effect]:
        """Those without names, and of each kind with names the clearest."""
        effects = []
        for kind, counts in self.counts.items():
            known = [
                Effect.of(name, *both) for name, both in counts.items() if sum(both) >= FEWEST or not kind
            ]
            clearest = sorted(known, key=lambda effect: max(effect.low, 1 - effect.high), reverse=True)
            effects += clearest[:MOST] if kind else known
        return effects
