"""Chapter 7, larger models: what the answers are checked for."""

import math
from itertools import takewhile

from course_lib.exercises.checks import agree, call, data, equal, require
from course_lib.exercises.choices import chosen_from, has_keys, number_in, read_off
from course_lib.exercises.questions import question

PRICES = {"input": 0.6, "output": 2.4}
CROSSING = 18  # thousands of pairs


def _cost(requests: int, read: int, written: int, prices: dict) -> float:
    return requests * (read * prices["input"] + written * prices["output"]) / 1e6


@question(
    "🐢",
    "One request costs its tokens read times the price of reading, plus its tokens written times the price of writing.",
    "The prices are for a million tokens, so divide by 1,000,000 at the end.",
)
def cost_of_run(answer):
    """A function of (requests, read, written, prices): what a run costs, in dollars."""
    misread = {
        "prices are for a million tokens": lambda n, r, w, p: _cost(n, r, w, p) * 1e6,
        "reading and writing have exchanged their prices": lambda n, r, w, p: _cost(n, w, r, p),
        "this is one request; there are more": lambda n, r, w, p: _cost(1, r, w, p),
        "the tokens that are written cost money, too": lambda n, r, w, p: _cost(n, r, 0, p),
    }
    runs = [(1000, 400, 80), (1, 2_500_000, 12_000), (50_000, 900, 150)]
    agree(answer, _cost, {f"{run} and {PRICES}": (*run, PRICES) for run in runs}, misread)


@question(
    "🐢",
    "Which numbers of the output are for the dry run, and which for all rows?",
    "Divide the tokens of all rows by the number of rows. Both orders ask twice.",
    kind="concept",
)
def read_dry_run(answer):
    """A dict of three numbers: "requests now", "read for a row", "dollars in both orders"."""
    rows = data("judging_run")["dry run"]
    has_keys(answer, list(rows))
    for name, row in rows.items():
        value = number_in(answer[name], 0, 1e9, f"a number for {name!r}")
        require(abs(value - row["right"]) < 0.01 * row["right"], f"{name!r} is not {value:g}: {row['why']}.")


def _waits(replies: list, doubling: bool = True, told: bool = True) -> list[float]:
    waits, wait = [], 0.5
    for _, retry_after in takewhile(lambda reply: reply[0] in (429, 503), replies):
        by_server = told and retry_after is not None
        waits.append(float(retry_after) if by_server else wait)
        wait *= 1 if by_server or not doubling else 2
    return waits


@question(
    "🐕",
    "Go through the replies in order. Which statuses mean that the same request may succeed later?",
    "Keep a wait that begins at 0.5 and doubles each time that you use it; where the server tells a time, use that.",
)
def waits(answer):
    """A function of replies, pairs of (status, retry_after or None): a list of the seconds that a client waits."""
    cases = {
        "an answer at once": [(200, None)],
        "a time that the server tells": [(429, 20), (200, None)],
        "no time told": [(503, None), (429, None), (429, None), (200, None)],
        "some times told": [(429, None), (429, 7), (503, None), (200, None)],
        "a wrong key": [(429, 3), (401, None), (429, 5), (200, None)],
    }
    misread = {
        "without a time from the server, the wait doubles each time": lambda r: _waits(r, doubling=False),
        "where the server tells a time, wait that long": lambda r: _waits(r, told=False),
    }
    agree(answer, _waits, {name: (replies,) for name, replies in cases.items()}, misread)


@question(
    "🐕",
    "Look for the place where the two lines cross, and go down to the axis.",
    "Left of it, paying by the token is cheaper; right of it, the rented machine.",
    kind="plot",
)
def rent_from(answer):
    """The number of thousands of pairs, read from the figure to within 1.5, from which renting is cheaper."""
    thousands = number_in(answer, 0, 30, "thousands of pairs, a number")
    early = thousands < CROSSING
    effect = (
        "paying by the token is still cheaper there" if early else "renting is cheaper from fewer pairs on"
    )
    read_off(thousands, CROSSING, 1.5, effect, data("judging_run")["curves"], "thousands of pairs", "dollars")


@question(
    "🐕",
    "Ask of each cell: who sees the key when the notebook is shared?",
    "Outputs are saved, too.",
    kind="fault",
)
def leaked_key(answer):
    """The cell that gives the key away: "a", "b", "c" or "d"."""
    misread = {
        "a": "the key stays in the environment, and the class reads it there.",
        "b": "getpass shows no key, and the notebook keeps none.",
        "c": "it prints whether there is a key, and not the key.",
    }
    chosen_from(answer, "d", misread)


def _best(judges: list, pairs: int, dollars: float, hours: float) -> str | None:
    able = [j for j in judges if pairs * j["dollars for 1,000"] / 1000 <= dollars]
    able = [j for j in able if pairs * j["seconds for a pair"] / 3600 <= hours]
    return max(able, key=lambda j: (j["accuracy"], -j["dollars for 1,000"]), default={"judge": None})["judge"]


@question(
    "🐕",
    "First leave out the judges that cost too much or take too long for this number of pairs.",
    "Of those left take the highest accuracy, and the lower price where two are equal; None if no judge is left.",
)
def best_judge(answer):
    """A function of (judges, pairs, dollars, hours): the name of the most accurate judge that both limits allow, or None."""
    run = data("judging_run")
    misread = {
        "the time is left out": lambda j, n, dollars, hours: _best(j, n, dollars, math.inf),
        "the money is left out": lambda j, n, dollars, hours: _best(j, n, math.inf, hours),
        "the prices are for 1,000 pairs": lambda j, n, dollars, hours: _best(j, n, dollars * n / 1000, hours),
    }
    cases = {
        f"{n:,} pairs, ${money:g} and {hours:g} hours": (run["judges"], n, money, hours)
        for n, money, hours in run["limits"]
    }
    agree(answer, _best, cases, misread)


def _try_client(
    client, words: str, replies: list, text: str | None, reason: str | None, pauses: list
) -> None:
    bodies, waited, left = [], [], [tuple(reply) for reply in replies]

    def send(body):
        require(left, f"For {words}: you asked again after the last reply.")
        bodies.append(body)
        return left.pop(0)

    value = call(client, send, waited.append, {"model": "large"})
    equal(value, {"text": text, "reason": reason}, f"for {words}")
    equal(len(bodies), len(pauses) + 1, f"requests for {words}")
    equal([float(pause) for pause in waited], pauses, f"the waits for {words}")


@question(
    "🦁",
    "A loop of at most five tries: send, look at the status, and wait only where another try may help.",
    'On status 200 look at the refusal first, then at the finish reason: "length" means that the text was cut.',
)
def own_client(answer):
    """A function of (send, wait, body): a dict of "text" and "reason", one of them None."""
    for words, case in data("judging_run")["clients"].items():
        _try_client(answer, words, *case)
