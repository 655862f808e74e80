"""The engine of the exercises: every answer ends as correct, incorrect with a reason, or not attempted; nothing is raised."""

import json
import threading
import time
import types

import numpy as np
import pytest

from course_lib.errors import InputError
from course_lib.exercises import Sheet, chapter
from course_lib.exercises.checks import Wrong, call, equal, plain, require
from course_lib.exercises.choices import chosen_from, of_type
from course_lib.exercises.questions import outcome_of, question, unattempted
from course_lib.exercises.sheet import questions_in
from course_lib.exercises.sources import exercise_of, solution_code, stripped


@question("🐢", "Use a loop.", "return 2 * x")
def double(answer):
    """A function that doubles a number."""
    for number in (0, 1.5, -3):
        equal(call(answer, number), 2 * number, f"for {number}")


@question("🐢", "Count.", kind="concept", seconds=0.3)
def many(answer):
    """A whole number."""
    of_type(answer, int, "a whole number")
    require(answer == 3, f"{answer} is not 3.")


def sheet() -> Sheet:
    module = types.ModuleType("made")
    module.double, module.many = double, many
    return Sheet(1, questions_in(module))


def judged(answer, one=double):
    outcome = outcome_of(one.question, answer)
    return outcome.status, outcome.reason


def test_right_answers_of_any_spelling_are_correct():
    assert judged(lambda x: x + x) == ("correct", "")
    assert judged((2).__mul__)[0] == "incorrect"  # (2).__mul__(1.5) is NotImplemented: a value, not a crash
    assert judged(3, many) == ("correct", "")


@pytest.mark.parametrize("answer", [..., lambda x: ...], ids=["dots", "returns-dots"])
def test_what_still_holds_dots_is_not_attempted(answer):
    assert judged(answer)[0] == "not attempted"


def test_stubs_of_functions_classes_and_containers_are_not_attempted():
    def stub(x):
        """Double x."""
        ...  # noqa: PIE790

    def generator(x):
        yield x

    class Stub:
        def process(self, inputs): ...

    class Returning:
        def process(self, inputs):
            return ...

    class Whole:
        def process(self, inputs):
            return inputs

    assert all(map(unattempted, [stub, Stub, Returning, [1, ...], {"a": ...}, {"a": [...]}, (...,)]))
    assert not any(map(unattempted, [generator, Whole, [1], {"a": 1}, None, 0, "", "...", print]))


def test_a_function_that_returns_dots_inside_is_not_attempted():
    def half_done(x):
        y = x + 1  # noqa: F841
        return ...

    assert judged(half_done)[0] == "not attempted"


def test_an_exception_of_the_learner_names_its_line_and_the_arguments():
    def divides(x):
        y = 1
        return y / x

    status, reason = judged(divides)
    assert status == "incorrect"
    assert "Called with (0), your function raised ZeroDivisionError" in reason
    assert "line 3 of it" in reason


def test_the_line_is_one_of_the_function_itself_whoever_raised():
    def helper(x):
        raise ValueError("no")

    def calls_it(x):
        return helper(x)

    assert "raised ValueError: no (line 2 of it)" in judged(calls_it)[1]


def test_wrong_values_say_what_came_what_was_expected_and_where():
    assert judged(lambda x: x * x) == ("incorrect", "For 1.5: your answer gives 2.25; expected 3.0.")


@pytest.mark.parametrize("answer", [5, "double", None, [1], print, object()], ids=repr)
def test_answers_of_a_wrong_type_are_incorrect_and_never_raise(answer):
    assert judged(answer)[0] == "incorrect"


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")

    __eq__ = __float__ = __len__ = __bool__ = __repr__
    __hash__ = None


def test_an_object_that_raises_on_every_look_is_incorrect():
    status, reason = judged(lambda x: Hostile())
    assert status == "incorrect" and "raised RuntimeError: no repr" in reason
    assert judged(Hostile(), many)[0] == "incorrect"


def test_an_endless_loop_ends_with_a_reason():
    over = threading.Event()

    @question("🐢", "-", seconds=0.4)
    def once(answer):
        call(answer)

    def loop():
        while not over.is_set():
            pass

    started = time.monotonic()
    status, reason = judged(loop, once)
    over.set()
    assert (status, "still running after 0.4 seconds" in reason) == ("incorrect", True)
    assert "restart the kernel" in reason
    assert time.monotonic() - started < 5


class Mute(ValueError):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Mute()], ids=lambda e: type(e).__name__
)
def test_an_answer_that_exits_or_cannot_say_why_is_incorrect(error):
    def leaves(x):
        raise error

    status, reason = judged(leaves)
    assert status == "incorrect" and type(error).__name__ in reason


def test_an_answer_cannot_change_the_data_of_the_check():
    data = [1, 2, 3]
    call(lambda values: values.clear(), data)
    assert data == [1, 2, 3]


def test_equal_compares_by_meaning():
    import numpy as np

    for came, expected in [
        (np.float32(0.5), 0.5),
        ((1, 2), [1, 2]),
        (np.array([1.0, 2.0]), [1, 2]),
        ({"a": 1.0004}, {"a": 1}),
        ([3, 1], {1, 3}),
        (np.True_, True),
        (None, None),
        ("x", "x"),
    ]:
        equal(came, expected, "here")
    for came, expected in [
        (True, 1),
        ("1", 1),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        (1, True),
        (0, None),
        ("ab", ["a", "b"]),
        ({1, 2}, [1, 2]),
    ]:
        with pytest.raises(Wrong):
            equal(came, expected, "here")


def test_options_explain_the_misunderstanding():
    chosen_from(" Mean ", "mean", {"max": "The likeliest digit ties too often."})
    with pytest.raises(Wrong, match="ties too often"):
        chosen_from("max", "mean", {"max": "The likeliest digit ties too often."})
    with pytest.raises(Wrong, match="allowed: 'max', 'mean'"):
        chosen_from(4, "mean", {"max": "."})


def test_only_declared_questions_are_questions():
    module = types.ModuleType("made")
    module.double, module.other = double, types.SimpleNamespace(question="What else?")
    assert questions_in(module) == [double.question]


def test_progress_hints_and_unknown_names():
    ex = sheet()
    assert "0 of 2 correct" in repr(ex.progress())
    assert "correct" in repr(ex.check("double", lambda x: 2 * x))
    assert "not attempted" in repr(ex.check("many"))
    assert "1 of 2 correct" in repr(ex.progress())
    assert [repr(ex.hint("double"))[:13] for _ in range(3)] == [
        "Hint 1 of 2: ",
        "Hint 2 of 2: ",
        "Hint 2 of 2: ",
    ]
    with pytest.raises(InputError, match="Did you mean 'double'"):
        ex.check("doubel", 1)
    for number in (0, 8, "1", None, True):
        with pytest.raises(InputError, match="allowed: 1, 2, 3, 4, 5, 6, 7"):
            chapter(number)


def test_what_a_learner_wrote_is_escaped():
    note = sheet().check("many", "<script>alert(1)</script>")
    assert "<script>" not in note._repr_html_() and "&lt;script&gt;" in note._repr_html_()


def test_a_picture_comes_with_the_reason():
    from course_lib.plots import figure

    @question("🐢", "-")
    def drawn(answer):
        raise Wrong("Not like that.", figure()[0])

    module = types.ModuleType("made")
    module.drawn = drawn
    note = Sheet(1, questions_in(module)).check("drawn", 1)
    assert 'alt="target beside yours" src="data:image/png;base64,' in note._repr_html_()


def test_marks_become_dots_at_the_same_place():
    body = "    ### BEGIN SOLUTION\n    y = x\n    return y\n    ### END SOLUTION\n"
    source = f"def f(x):\n{body}n = 3  # SOLUTION\nprint(n)  # SOLUTION\nf(2)"
    assert stripped(source) == "def f(x):\n    ...\nn = ...\n...\nf(2)"
    assert stripped("    return a == b  # SOLUTION") == "    return ..."
    assert stripped('x = {"a": 1}  # SOLUTION') == "x = ..."
    for broken in (
        "### BEGIN SOLUTION\nx",
        "x\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    ):
        with pytest.raises(InputError, match="SOLUTION"):
            stripped(broken)


def test_a_made_exercise_has_no_answers_outputs_or_test_cells():
    code = {"cell_type": "code", "metadata": {}, "outputs": [{"x": 1}], "execution_count": 3}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title"]},
        {**code, "source": ["x = 7  # SOLUTION\n", "x"]},
        {**code, "metadata": {"tags": ["test-only"]}, "source": ["assert x == 7"]},
    ]
    made = exercise_of({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code"]
    assert made["cells"][1]["source"] == "x = ...\nx"
    assert made["cells"][1]["outputs"] == [] and made["cells"][1]["execution_count"] is None
    assert "7" not in json.dumps(made)


def test_a_missing_solution_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("course_lib.exercises.sources.solutions_folder", lambda: tmp_path)
    with pytest.raises(InputError, match="Get them from the repository"):
        solution_code(1, "double")
    cells = [{"cell_type": "code", "metadata": {}, "source": 'y = 2  # SOLUTION\nex.check("many", y)'}]
    (tmp_path / "01_x.ipynb").write_text(json.dumps({"cells": cells}))
    assert solution_code(1, "many") == "y = 2"
    with pytest.raises(InputError, match="no question 'double'"):
        solution_code(1, "double")


def test_a_question_without_hints_or_of_an_unknown_level_cannot_be_declared():
    for bad in ({"level": "🐘"}, {"level": "🐢", "kind": "essay"}):
        with pytest.raises(ValueError):
            question(bad["level"], "hint", kind=bad.get("kind", "code"))
    with pytest.raises(ValueError):
        question("🐢")


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_numbers_of_numpy_are_numbers_wherever_they_stand(number):
    assert plain(number) == 0.5 and type(plain(number)) is float
    assert plain({"a": [number, (number,)]}) == {"a": [0.5, (0.5,)]}
    assert plain(np.arange(3)) == [0, 1, 2] and plain([np.int64(3)]) == [3]
    own = type("Own", (list,), {})([number])
    assert plain(own) is own
