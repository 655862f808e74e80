"""What the checks of answers may use: to call a learner's function, and to compare what it gives with what is expected."""

import copy
import inspect
import json
import math
import traceback
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any

from course_lib.errors import CourseLibError

LAZY = Iterator | KeysView | ValuesView | ItemsView | range
COLLECTION = list | tuple | set | frozenset
TOLERANCE = 1e-3  # of numbers
LENGTH = 160  # characters of a value in a message


class Wrong(Exception):
    """The answer is not right: the reason says what came, what was expected, and where. `figure` may show both."""

    def __init__(self, reason: str, figure: Any = None):
        super().__init__(reason)
        self.figure = figure


class NotAttempted(Exception):
    """The answer still holds `...`."""


def call(function: Any, *arguments: Any, **named: Any) -> Any:
    """The learner's function applied to copies of the arguments; what it raises becomes a reason."""
    if not callable(function):
        raise Wrong(f"Expected a function; your answer is {excerpt(function)}.")
    try:
        returned = plain(function(*copy.deepcopy(arguments), **copy.deepcopy(named)))
    except (NotAttempted, Wrong):
        raise
    except Exception as error:
        values = [*map(excerpt, arguments), *(f"{name}={excerpt(value)}" for name, value in named.items())]
        place = f"{error_words(error)}{_line(function, error)}"
        raise Wrong(f"Called with ({', '.join(values)}), your function raised {place}.") from error
    if returned is ...:
        raise NotAttempted
    return returned


def plain(value: Any) -> Any:
    """`value` with Python's own numbers and lists for those of numpy, torch, pandas and generators, wherever they stand."""
    if type(value).__name__ == "DataFrame":
        return plain(value.to_dict("records"))
    if hasattr(value, "tolist") and not isinstance(
        value, type
    ):  # an array, a tensor, a series, or a number of one
        return value.tolist()
    if isinstance(value, LAZY):
        return [plain(item) for item in value]
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(kept) for key, kept in value.items()}
    return value


def require(condition: Any, reason: str, figure: Any = None) -> None:
    """Raise `Wrong(reason)` unless `condition` holds."""
    if not condition:
        raise Wrong(reason, figure)


def expect(fits: Any, words: str, value: Any, where: str = "") -> None:
    """Raise `Wrong` unless `value` fits; `words` say what it should be, `where` begins the message."""
    expected = f"expected {words}; your answer gives {excerpt(value)}.{_advice(value)}"
    require(fits, f"{_capital(where)}: {expected}" if where else _capital(expected))


def alike(value: Any, expected: Any) -> bool:
    """Whether both are equal: numbers within `TOLERANCE`, sequences place by place, sets and dicts by key."""
    value = plain(value)
    if expected is None or isinstance(expected, bool):
        return value is expected
    if isinstance(expected, int | float):
        return _is_number(value) and math.isclose(float(value), expected, rel_tol=0, abs_tol=TOLERANCE)
    if isinstance(expected, str):
        return isinstance(value, str) and value == expected
    if isinstance(expected, Mapping):
        same_keys = isinstance(value, Mapping) and set(value) == set(expected)
        return same_keys and all(alike(value[key], item) for key, item in expected.items())
    if isinstance(expected, set | frozenset):
        return isinstance(value, COLLECTION) and set(value) == expected
    if isinstance(expected, Sequence):
        in_order = hasattr(value, "__len__") and not isinstance(value, str | Mapping | set | frozenset)
        return in_order and len(value) == len(expected) and all(map(alike, value, expected))
    return bool(value == expected)


def equal(value: Any, expected: Any, where: str, misread: Mapping[str, Any] | None = None) -> None:
    """Raise `Wrong` unless both are `alike`.

    misread: what usual misunderstandings give, by the sentence (without its full stop) that explains the mistake.
    """
    if alike(value, expected):
        return
    place, given, wanted = _difference(value, expected)
    values = f"answer gives {excerpt(given)}{place}; expected {excerpt(wanted)}.{_advice(value)}"
    for reason, variant in (misread or {}).items():
        require(not alike(value, variant), f"{_capital(where)}: {reason}. Your {values}")
    raise Wrong(f"{_capital(where)}: your {values}")


def _advice(value: Any) -> str:
    return " If your function prints its result, let it return it." if value is None else ""


def _difference(value: Any, expected: Any) -> tuple[str, Any, Any]:
    """Where two long values first differ, in words, and what stands there."""
    places: Any = ()
    if len(repr(expected)) > LENGTH:
        if isinstance(expected, Mapping) and isinstance(value, Mapping) and set(value) == set(expected):
            places = expected
        elif isinstance(expected, list) and isinstance(value, list) and len(value) == len(expected):
            places = range(len(expected))
    for key in places:
        if not alike(value[key], expected[key]):
            place, given, wanted = _difference(value[key], expected[key])
            return f"{place} at {key!r}", given, wanted
    return "", value, expected


def agree(
    answer: Any, reference: Callable, cases: Mapping[str, tuple], misread: Mapping[str, Callable]
) -> None:
    """Raise `Wrong` unless the learner's function returns what `reference` does for the arguments of every case.

    cases: the arguments by words that name them; misread: what to compute instead, by the sentence that explains the mistake.
    """
    for words, arguments in cases.items():
        value, expected = call(answer, *arguments), reference(*arguments)
        wrong = not alike(value, expected)
        variants = {reason: variant(*arguments) for reason, variant in misread.items()} if wrong else {}
        equal(value, expected, f"for {words}", variants)


def is_pair(value: Any) -> bool:
    """Whether `value` is a list or a tuple of two."""
    return isinstance(value, list | tuple) and len(value) == 2


def data(name: str) -> Any:
    """The table `name` in `data/`: inputs of checks that are too long to stand among them."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text(encoding="utf-8"))


def excerpt(value: Any) -> str:
    """A value in a message, shortened."""
    try:
        text = f"the function {value.__name__}" if inspect.isfunction(value) else repr(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


def error_words(error: BaseException) -> str:
    """An error in a message: its kind and what it says, shortened."""
    if isinstance(error, CourseLibError):  # says itself what to do next, at its end
        return str(error)
    try:
        words = f"{type(error).__name__}: {error}"[:LENGTH]
    except Exception:
        words = ""
    return words.removesuffix(": ") or type(error).__name__


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | str | bytes):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _line(function: Callable, error: BaseException) -> str:
    """The line of the learner's own function in which the error arose, or which called what raised it."""
    code = getattr(function, "__code__", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    return f" (line {lines[-1] - code.co_firstlineno + 1} of it)" if lines else ""
