"""What a question is, and how an answer is judged.

A check is a plain function of the answer. It returns None, or words on a slip, when the answer is right, and raises `Wrong`
with the reason when it is not; it tests what the answer does, not its spelling. To declare a question, write in `chapter_N.py`:

    @question("🐢", "What are the weights of the mean?", "Multiply each rating by its probability, then add up.")
    def expected_rating(answer):
        "A function: five probabilities in, their mean rating out."
        equal(call(answer, [0, 0, 0, 0, 1]), 5.0, "for a judge that is sure of 5")
"""

import ast
import inspect
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from course_lib.exercises.checks import COLLECTION, NotAttempted, Wrong, error_words, excerpt, plain

LEVELS = ("🐢", "🐕", "🦁")
KINDS = ("code", "plot", "fault", "concept")


@dataclass(frozen=True)
class Question:
    """One question. `asks` is what the answer must be, `hints` go from a nudge to nearly the answer."""

    name: str
    level: str
    kind: str
    asks: str
    hints: tuple[str, ...]
    check: Callable[[Any], str | None]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a check found: `status` is "correct", "incorrect" or "not attempted". A correct one may have a slip as reason."""

    name: str
    status: str
    reason: str = ""
    figure: Any = None


def question(level: str, *hints: str, kind: str = "code", seconds: float = 10):
    """Declare the decorated check as a question of that name. `seconds`: how long an answer may take."""
    if level not in LEVELS or kind not in KINDS or not hints:
        allowed = f"allowed: {LEVELS}, {KINDS}, at least one hint"
        raise ValueError(f"level={level!r}, kind={kind!r}, {len(hints)} hints; {allowed}.")

    def declare(check):
        asks = inspect.getdoc(check) or ""
        check.question = Question(check.__name__, level, kind, asks, hints, check, seconds)
        return check

    return declare


def outcome_of(item: Question, answer: Any) -> Outcome:
    """Check `answer` in a thread of its own, which is waited for `item.seconds`; nothing is raised."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(_judged(item, answer)), daemon=True)
    thread.start()
    thread.join(item.seconds)
    late = f"It was still running after {item.seconds:g} seconds, and goes on: restart the kernel to stop it."
    cause = "Look for a loop that never ends, or for work done again."
    return outcomes[0] if outcomes else Outcome(item.name, "incorrect", f"{late} {cause}")


def _judged(item: Question, answer: Any) -> Outcome:
    try:
        if unattempted(answer):
            raise NotAttempted
        slip = item.check(plain(answer))
    except NotAttempted:
        return Outcome(item.name, "not attempted")
    except Wrong as wrong:
        return Outcome(item.name, "incorrect", str(wrong), wrong.figure)
    except BaseException as error:  # in a thread of its own, where nobody else would see it
        raised = f"looking at it raised {error_words(error)}"
        reason = f"Your answer is {excerpt(answer)}, and {raised}. Expected: {item.asks}"
        return Outcome(item.name, "incorrect", reason)
    return Outcome(item.name, "correct", slip or "")


def unattempted(answer: Any) -> bool:
    """Whether `answer` is `...`, holds it, or is a function, or a class with a method, whose body is nothing but `...`."""
    if answer is ...:
        return True
    if isinstance(answer, Mapping):
        return any(unattempted(value) for value in answer.values())
    if isinstance(answer, COLLECTION):
        return any(value is ... for value in answer)
    if inspect.isfunction(answer):
        return _empty(answer)
    if inspect.isclass(answer):
        return any(_empty(method) for method in vars(answer).values() if inspect.isfunction(method))
    return False


def _empty(function: Callable) -> bool:
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, ValueError):  # no source, or a lambda's, which is part of a line
        return False
    return isinstance(definition, ast.FunctionDef) and all(map(_says_nothing, definition.body))


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is `...`, `return ...`, `pass` or a docstring."""
    if isinstance(statement, ast.Expr | ast.Return) and isinstance(statement.value, ast.Constant):
        return statement.value.value is ... or isinstance(statement, ast.Expr)
    return isinstance(statement, ast.Pass)
