"""What a question is, and what its check may use.

A check is a plain function of the answer. It returns when the answer is right, and raises `Wrong` with the reason when it
is not; it tests what the answer does, not how it is spelled. To declare a question, write one in `chapter_N.py`:

    @question("🐢", "What are the weights of the mean?", "Multiply each rating by its probability, then add up.")
    def expected_rating(answer):
        "A function: five probabilities in, their mean rating out."
        equal(call(answer, [0, 0, 0, 0, 1]), 5.0, "for a judge that is sure of 5")
"""

import ast
import copy
import inspect
import json
import math
import textwrap
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from course_lib.errors import CourseLibError
from course_lib.steps.load import DATA, read_jsonl

LEVELS = ("🐢", "🐕", "🦁")
KINDS = ("code", "plot", "fault", "concept")
COLLECTION = list | tuple | set | frozenset
SHOWN = 160  # characters of a value in a message


class Wrong(Exception):
    """The answer is not right: the reason says what came, what was expected, and where. `figure` may show both."""

    def __init__(self, reason: str, figure: Any = None):
        super().__init__(reason)
        self.figure = figure


class NotAttempted(Exception):
    """The answer still holds `...`."""


@dataclass(frozen=True)
class Question:
    """One question. `asks` is what the answer must be, `hints` go from a nudge to nearly the answer."""

    name: str
    level: str
    kind: str
    asks: str
    hints: tuple[str, ...]
    check: Callable[[Any], None]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a check found: `status` is "correct", "incorrect" or "not attempted"."""

    name: str
    status: str
    reason: str = ""
    figure: Any = None


def question(level: str, *hints: str, kind: str = "code", seconds: float = 10):
    """Declare the decorated check as a question of that name. `seconds`: how long an answer may take."""
    if level not in LEVELS or kind not in KINDS or not hints:
        raise ValueError(
            f"level={level!r}, kind={kind!r}, {len(hints)} hints; allowed: {LEVELS}, {KINDS}, at least one hint."
        )

    def declare(check):
        check.question = Question(
            check.__name__, level, kind, inspect.getdoc(check) or "", hints, check, seconds
        )
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
        item.check(plain(answer))
    except NotAttempted:
        return Outcome(item.name, "not attempted")
    except Wrong as wrong:
        return Outcome(item.name, "incorrect", str(wrong), wrong.figure)
    except BaseException as error:  # in a thread of its own, where nobody else would see it
        reason = (
            f"Your answer is {shown(answer)}, and looking at it raised {_named(error)}. Expected: {item.asks}"
        )
        return Outcome(item.name, "incorrect", reason)
    return Outcome(item.name, "correct")


def unattempted(answer: Any) -> bool:
    """Whether `answer` is `...`, holds it, or is a function, or a class with a method, whose body is nothing but `...`."""
    if answer is ...:
        return True
    if isinstance(answer, Mapping):
        return any(unattempted(value) for value in answer.values())
    if isinstance(answer, list | tuple | set | frozenset):
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


# --- what checks use ------------------------------------------------------------------------------------------------


def call(function: Any, *arguments: Any, **named: Any) -> Any:
    """The learner's function applied to copies of the arguments; what it raises becomes a reason."""
    if not callable(function):
        raise Wrong(f"Expected a function; your answer is {shown(function)}.")
    try:
        returned = function(*copy.deepcopy(arguments), **copy.deepcopy(named))
    except (NotAttempted, Wrong):
        raise
    except Exception as error:
        given = ", ".join(
            [*map(shown, arguments), *(f"{name}={shown(value)}" for name, value in named.items())]
        )
        raise Wrong(
            f"Called with ({given}), your function raised {_named(error)}{_where(function, error)}."
        ) from error
    if returned is ...:
        raise NotAttempted
    return plain(returned)


def plain(value: Any) -> Any:
    """`value` with Python's own numbers and lists for those of numpy, wherever they stand in it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(kept) for key, kept in value.items()}
    return value


def alike(value: Any, expected: Any, tolerance: float = 1e-3) -> bool:
    """Whether both are equal: numbers within `tolerance`, sequences place by place, sets and dicts by key."""
    if isinstance(expected, bool) or expected is None:
        return value is expected if expected is None else is_bool(value) and bool(value) == expected
    if isinstance(expected, int | float):
        return _number(value) and math.isclose(float(value), expected, rel_tol=0, abs_tol=tolerance)
    if isinstance(expected, str):
        return isinstance(value, str) and value == expected
    if isinstance(expected, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(expected):
            return False
        return all(alike(value[key], item, tolerance) for key, item in expected.items())
    if isinstance(expected, set | frozenset):
        return isinstance(value, set | frozenset | list | tuple) and set(value) == expected
    if isinstance(expected, Sequence):
        if (
            isinstance(value, str | Mapping | set | frozenset)
            or not hasattr(value, "__len__")
            or len(value) != len(expected)
        ):
            return False
        return all(alike(v, e, tolerance) for v, e in zip(value, expected, strict=True))
    return bool(value == expected)


def equal(value: Any, expected: Any, where: str, misread: Mapping[str, Any] | None = None) -> None:
    """Raise `Wrong` unless both are `alike`.

    misread: what usual misunderstandings give, by the sentence (without its full stop) that explains the mistake.
    """
    if alike(value, expected):
        return
    values = f"answer gives {shown(value)}; expected {shown(expected)}."
    where = f"{where[:1].upper()}{where[1:]}"
    for reason, variant in (misread or {}).items():
        require(not alike(value, variant), f"{where}: {reason}. Your {values}")
    raise Wrong(f"{where}: your {values}")


def agree(
    answer: Any, reference: Callable, cases: Mapping[str, tuple], misread: Mapping[str, Callable]
) -> None:
    """Raise `Wrong` unless the learner's function returns what `reference` does for the arguments of every case.

    cases: the arguments by words that name them; misread: what to compute instead, by the sentence that explains the mistake.
    """
    for words, arguments in cases.items():
        value, expected = call(answer, *arguments), reference(*arguments)
        if not alike(value, expected):
            equal(
                value,
                expected,
                f"for {words}",
                {reason: variant(*arguments) for reason, variant in misread.items()},
            )


def require(condition: Any, reason: str, figure: Any = None) -> None:
    """Raise `Wrong(reason)` unless `condition` holds."""
    if not condition:
        raise Wrong(reason, figure)


def is_bool(value: Any) -> bool:
    """Whether `value` is True or False, or numpy's."""
    return type(value).__name__ in ("bool", "bool_")


def is_pair(value: Any) -> bool:
    """Whether `value` is a list or a tuple of two."""
    return isinstance(value, list | tuple) and len(value) == 2


def faulty_preferences() -> list[dict]:
    """The rows of the dataset with planted faults."""
    return read_jsonl(DATA / "faulty_preferences.jsonl")


def data(name: str) -> Any:
    """The table `name` in `data/`: inputs of checks that are too long to stand among them."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text(encoding="utf-8"))


def ids_in(answer: Any) -> set:
    """The ids that an answer names in a list, a tuple or a set."""
    require(isinstance(answer, COLLECTION), f"Expected a list of ids; your answer is {shown(answer)}.")
    return set(answer)


def equal_ids(ids: set, wanted: set, extra: str, missing: str = "ids are missing", where: str = "") -> None:
    """Raise `Wrong` unless both are equal; `extra` and `missing` say in words what is the matter with so many of them."""
    too_many, too_few = len(ids - wanted), len(wanted - ids)
    require(not too_many, f"{where}{too_many} of your {len(ids)} ids {extra}.")
    require(not too_few, f"{where}{too_few} of {len(wanted)} {missing}.")


def of_type(answer: Any, wanted: type | tuple[type, ...], words: str) -> None:
    """Raise `Wrong` unless `answer` is of a type; `words` name it for the learner."""
    if not isinstance(answer, wanted) or (isinstance(answer, bool) and wanted is not bool):
        raise Wrong(f"Expected {words}; your answer is {shown(answer)}, of type {type(answer).__name__}.")


def chosen_from(answer: Any, right: str, misunderstood: Mapping[str, str]) -> None:
    """For questions with given options: raise `Wrong` with the explanation of the option that was taken."""
    options = sorted([right, *misunderstood])
    if not isinstance(answer, str) or answer.strip().lower() not in options:
        raise Wrong(f"Your answer is {shown(answer)}; allowed: {', '.join(map(repr, options))}.")
    if answer.strip().lower() != right:
        raise Wrong(f"{answer!r}: {misunderstood[answer.strip().lower()]}")


def shown(value: Any) -> str:
    """A value in a message, shortened."""
    try:
        text = f"the function {value.__name__}" if inspect.isfunction(value) else repr(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _number(value: Any) -> bool:
    if isinstance(value, bool | str | bytes):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _named(error: BaseException) -> str:
    if isinstance(error, CourseLibError):  # says itself what to do next, at its end
        return str(error)
    try:
        words = f"{type(error).__name__}: {error}"[:SHOWN]
    except Exception:
        words = ""
    return words.removesuffix(": ") or type(error).__name__


def _where(function: Callable, error: BaseException) -> str:
    """The line of the learner's own function in which the error arose, or which called what raised it."""
    code = getattr(function, "__code__", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    return f" (line {lines[-1] - code.co_firstlineno + 1} of it)" if lines else ""
