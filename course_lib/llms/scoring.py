"""Token ids in, scores out: batches of rows laid over each other, as large as memory allows."""

from collections.abc import Callable, Iterator
from typing import Any

from course_lib.llms import tree
from course_lib.llms.devices import most_nodes, out_of_memory
from course_lib.llms.loaded import Loaded

Rows = dict[int, list[int]]  # token ids by position


def log_prob_batches(
    loaded: Loaded, rows: Rows, targets: dict[int, list[tuple[int, int]]], wanted: set[int]
) -> Iterator[dict[int, list[float]]]:
    """Batches of rounded log-probabilities of `targets`, of the `rows` wanted; see `log_probs_of`."""

    def score(part: list[int], prefix: tree.Prefix) -> list[list[float]]:
        batch = tree.log_probs_of(loaded.model, [rows[p] for p in part], [targets[p] for p in part], prefix)
        return [[round(value, 4) for value in logs] for logs in batch]

    return _over_trees(loaded, rows, {p: row[0][0] for p, row in targets.items()}, wanted, score)


def feature_batches(
    loaded: Loaded, rows: Rows, places: dict[int, tuple[int, int]], layers: tuple[int, ...], wanted: set[int]
) -> Iterator[dict[int, Any]]:
    """Batches of the features, as numpy arrays, of those `rows` that are wanted; see `hidden_features`."""

    def pool(part: list[int], prefix: tree.Prefix):
        batch = [rows[p] for p in part], [places[p] for p in part]
        return tree.hidden_features(loaded.model, *batch, layers, prefix).numpy()

    return _over_trees(loaded, rows, {p: start for p, (start, _) in places.items()}, wanted, pool)


def _over_trees(
    loaded: Loaded, rows: Rows, first_places: dict[int, int], wanted: set[int], compute: Callable
) -> Iterator[dict[int, Any]]:
    """`compute(positions, prefix)` over batches of `rows`; what all rows begin with is read once."""
    if not wanted & set(rows):
        return
    shared = tree.shared_length(list(rows.values()), most=min(first_places.values()))
    prefix = _prefix(loaded.model, next(iter(rows.values()))[:shared])
    rest = {p: row[prefix.length :] for p, row in rows.items()}
    for batch in tree.tree_batches(rest, most_nodes(loaded.model)):
        part_of_batch = [p for p in batch if p in wanted]
        for part, results in loaded.in_parts(part_of_batch, lambda part: compute(part, prefix)):
            yield dict(zip(part, results, strict=True))


def _prefix(model, tokens: list[int]) -> tree.Prefix:
    """What reading `tokens` left, or an empty prefix where memory cannot keep it beside the rows."""
    try:
        return tree.read_prefix(model, tokens)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return tree.Prefix()
