"""An aspect of the learner's own: whether its template asks a judge as it should."""

import re

from course_lib.errors import InputError
from course_lib.exercises.checks import Wrong, require
from course_lib.exercises.choices import of_type
from course_lib.steps.filtering import similarity
from course_lib.steps.tasks.templating import names, parsed, shipped

BLOCKS = ("title", "question", "scale")
QUESTION, TEXT = "What does a thermos flask do?", "It keeps hot things hot and cold things cold."
RATING_LINE = re.compile(r"^\W*([1-5])\W+(\w.*)$", re.M)


def check_template(answer) -> None:
    """Raise `Wrong` unless `answer` is a template with a title, a question and a scale of five steps."""
    of_type(answer, str, "a template as text")
    try:
        template, variables = parsed(answer)
    except InputError as error:
        raise Wrong(str(error)) from error
    missing = ", ".join(name for name in BLOCKS if name not in template.blocks)
    require(not missing, f"There is no block {missing}. Each is {{% block name %}}…{{% endblock %}}.")
    begin = "Begin with {% extends layout %}."
    require("layout" in variables, f"It extends no layout, so no text gets into the prompt. {begin}")
    title, task, scale = (_written(template, name) for name in BLOCKS)
    empty = "The title or the question is empty: the judge must know what to look for."
    require(title.strip() and task.strip(), empty)
    _check_steps(scale)
    for name in names("ultrafeedback"):
        known = shipped(f"ultrafeedback/{name}")
        likeness = similarity(_written(known, "question") + _written(known, "scale"), task + scale)
        copied = f"That is nearly the aspect {name!r}, which is there already. Ask about something else."
        require(likeness <= 0.7, copied)


def _written(template, block: str) -> str:
    return "".join(template.blocks[block](template.new_context({"instruction": QUESTION, "texts": [TEXT]})))


def _check_steps(scale: str) -> None:
    steps = RATING_LINE.findall(scale)
    numbers = ", ".join(number for number, _ in steps)
    lines = f"The scale needs lines that begin with 1, 2, 3, 4, 5; {numbers or 'no'} came."
    require(numbers == "1, 2, 3, 4, 5", lines)
    texts = [words for _, words in steps]
    bare = [k for k, words in steps if re.fullmatch(r"[A-Za-z]+\W*", words) or texts.count(words) > 1]
    reason = f"Step {', '.join(bare)} of the scale is a single word, or has the same words as another one"
    require(not bare, f"{reason}. Say what a text of that rating looks like.")
