"""Token ids in, scores out: batches of rows laid over each other, as large as memory allows."""

from collections.abc import Callable, Iterator
from typing import Any

from course_lib.llms import tree
from course_lib.llms.devices import most_nodes
from course_lib.llms.loaded import Loaded


def scored(
    loaded: Loaded, rows: dict[int, tuple[list[int], int, Any]], wanted: set[int], compute: Callable
) -> Iterator[dict[int, Any]]:
    """Batches of what `compute` gives for the `rows` wanted; what all of them begin with is read once.

    Args:
        rows: by position: token ids, how many of them stand before all that is scored, and what is to be scored of them.
        compute: `tree.log_probs_of` or `tree.hidden_features`.
    """
    if not wanted & set(rows):
        return
    tokens = {p: ids for p, (ids, _, _) in rows.items()}
    shared = tree.shared_length(list(tokens.values()), most=min(start for _, start, _ in rows.values()))
    prefix = tree.read_prefix(loaded.model, next(iter(tokens.values()))[:shared])

    def score(part: list[int]) -> Any:
        return compute(loaded.model, [tokens[p] for p in part], [rows[p][2] for p in part], prefix)

    rest = {p: ids[prefix.length :] for p, ids in tokens.items()}
    for batch in tree.tree_batches(rest, most_nodes(loaded.model)):
        for part, results in loaded.in_parts([p for p in batch if p in wanted], score):
            yield dict(zip(part, results, strict=True))
