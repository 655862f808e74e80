"""Are the checks of the exercises themselves checked?

    python tools/mutate.py [CHAPTER…]

Changes one comparison, one constant or one `and`/`or` of `course_lib/exercises/chapter_N.py` at a time and asks whether some
answer in `tests/exercises/answers_N.py` notices: a right one that is refused, or a wrong one that is accepted or gets another
message. Prints what nobody noticed, and the share that was. Left alone are docstrings, hints, messages, limits of time, the
inputs of cases (constants in lists, tuples and dicts), and functions that only draw (`_drawn…`).
"""

import ast
import copy
import importlib
import sys
import types
from pathlib import Path

from course_lib.exercises.questions import outcome_of
from course_lib.exercises.sheet import CHAPTERS, questions_in

ROOT = Path(__file__).resolve().parent.parent
SWAPPED = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def changes(tree: ast.AST) -> list[tuple[int, str]]:
    """`(position in ast.walk, description)` of each change that can be made."""
    ignored = {id(node) for top in ast.walk(tree) for node in _untouched(top)}
    found = []
    for position, node in enumerate(ast.walk(tree)):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Compare):
            found += [(position, f"line {node.lineno}: {type(node.ops[0]).__name__} turned round")]
        elif isinstance(node, ast.BoolOp):
            found += [(position, f"line {node.lineno}: {type(node.op).__name__} turned round")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            found += [(position, f"line {node.lineno}: {node.value} + 1")]
    return found


def _untouched(node: ast.AST):
    """Nodes whose change would only change words, limits, inputs or pictures."""
    parts: list[ast.AST] = []
    if isinstance(node, ast.FunctionDef):
        parts = [node] if node.name.startswith("_drawn") else [*node.decorator_list, node.args]
    elif isinstance(node, ast.JoinedStr | ast.FormattedValue):
        parts = [node]
    elif isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Set):
        parts = [inner for inner in ast.walk(node) if isinstance(inner, ast.Constant)]
    return [inner for part in parts for inner in ast.walk(part)]


def changed(tree: ast.AST, position: int) -> ast.AST:
    tree = copy.deepcopy(tree)
    node = list(ast.walk(tree))[position]
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPPED[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = SWAPPED[type(node.op)]()
    else:
        node.value += 1
    return ast.fix_missing_locations(tree)


def noticed(tree: ast.AST, name: str, table) -> bool:
    """Whether some answer of `table` tells the changed module from a sound one."""
    module = types.ModuleType(name)
    try:
        exec(compile(tree, name, "exec"), module.__dict__)
        questions = {one.name: one for one in questions_in(module)}
    except Exception:
        return True
    for one in questions.values():
        if any(outcome_of(one, answer).status != "correct" for answer in table.RIGHT[one.name]):
            return True
        for answer, message in table.WRONG[one.name]:
            outcome = outcome_of(one, answer)
            if outcome.status != "incorrect" or message not in outcome.reason:
                return True
    return False


def share_noticed(number: int) -> tuple[int, int]:
    """How many changes were noticed, and of how many; those that were not are printed."""
    path = ROOT / "course_lib" / "exercises" / f"chapter_{number}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    table = importlib.import_module(f"answers_{number}")
    if noticed(tree, path.stem, table):
        raise SystemExit(f"The answers of chapter {number} do not fit its unchanged checks; run tests/exercises first.")
    missed = [words for position, words in changes(tree) if not noticed(changed(tree, position), path.stem, table)]
    for words in missed:
        print(f"  {path.name}, {words}: nobody noticed")
    total = len(changes(tree))
    return total - len(missed), total


def main(numbers: list[int]) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "exercises"))
    for number in numbers:
        found, total = share_noticed(number)
        print(f"chapter {number}: {found} of {total} changes noticed ({found / max(total, 1):.0%})")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(CHAPTERS))
