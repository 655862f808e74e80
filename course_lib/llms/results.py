"""Results that are looked up before they are computed, and counted."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from course_lib.declared import Declared
from course_lib.errors import CacheError, InputError
from course_lib.llms.cache import default_cache, result_key
from course_lib.paths import replaying

Compute = Callable[[set[int]], Iterable[dict[int, Any]]]  # from positions to batches of results by position


@dataclass
class Usage:
    """What an LLM has done so far: results, tokens of new ones, seconds (in all, of writing), dollars if it has prices."""

    new: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    writing_seconds: float = 0.0
    cost: float | None = None


class Scores(list):
    """Scores that a server gave, with the tokens that it read and wrote for them."""

    def __init__(self, scores: Iterable[float], tokens: tuple[int, int]):
        super().__init__(scores)
        self.input_tokens, self.output_tokens = tokens


class Computed(Declared):
    """What has a name and gives results. Subclasses say how to compute; `results` looks in the cache first.

    Args:
        use_cache: look results up in, and add them to, the cache on disk; only where there is a `fingerprint`.

    Attributes:
        model_name: what rows, cards and the cache call it.
        prices: dollars per million tokens, by `input` and `output`.
        fingerprint: all that a result depends on beside the input, as text; None, and nothing is cached. A backend
            that was mended needs another one, or it answers with what it wrote before.
    """

    use_cache: bool = True
    usage: Usage = field(default_factory=Usage, init=False)
    on_progress: Callable[[Usage], None] = field(default_factory=lambda: lambda usage: None, init=False)

    model_name: ClassVar[str] = ""
    prices: ClassVar[Mapping[str, float] | None] = None
    fingerprint: ClassVar[str | None] = None

    def results(self, kind: str, inputs: list[tuple], shape: Any, compute: Compute) -> list[Any]:
        """The results for `inputs`: from the cache, or computed; each batch is stored at once.

        What the cache holds is taken if it has the `shape` of a result; see `has_shape`.
        """
        if not self.model_name:
            raise TypeError(f"{type(self).__name__} must define model_name")
        fingerprint = self.fingerprint
        keys = [result_key(fingerprint, kind, *parts) for parts in inputs]
        store = default_cache() if self.use_cache and fingerprint is not None else None
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        results = store.get_many(list(first), lambda value: has_shape(value, shape)) if store else {}
        wanted = {position for key, position in first.items() if key not in results}
        self.usage.cached += len(keys) - len(wanted)
        if wanted and store and replaying():
            raise CacheError(
                f"{len(wanted)} of {len(keys)} results of {self.model_name} are not among the recorded ones, for "
                f"example {repr((kind, *inputs[min(wanted)]))[:200]}. COURSE_LIB_REPLAY is set, so no model was run. "
                "Record again (`make record`), or unset COURSE_LIB_REPLAY."
            )
        start = time.perf_counter()
        for batch in compute(wanted) if wanted else ():
            computed = {keys[position]: result for position, result in batch.items() if position in wanted}
            if store:
                lasting = {key: result for key, result in computed.items() if self.lasting(result)}
                store.put_many(lasting, self.model_name)
            results.update(computed)
            start = self._count(computed.values(), start)
        if missing := sorted(position for position in wanted if keys[position] not in results):
            raise InputError(
                f"{type(self).__name__} gave no result ({kind}) for {len(missing)} of {len(wanted)} inputs, for example "
                f"input {missing[0]}: {repr(inputs[missing[0]])[:120]}. Yield one for every position in `wanted`."
            )
        return [results[key] for key in keys]

    def lasting(self, result: Any) -> bool:
        """Whether to keep a result; the next run computes again what was a passing failure."""
        return True

    def _count(self, results: Iterable[Any], start: float) -> float:
        """Add what was computed since `start` to the usage; the time now."""
        now, results, usage = time.perf_counter(), list(results), self.usage
        written = [result for result in results if isinstance(result, dict)]
        usage.new += len(results)
        usage.seconds += now - start
        usage.writing_seconds += now - start if written else 0
        read = [vars(result) for result in results if isinstance(result, Scores)]
        for name in ("input", "output"):
            tokens = sum(result[f"{name}_tokens"] for result in written + read)
            setattr(usage, f"{name}_tokens", getattr(usage, f"{name}_tokens") + tokens)
            if self.prices:
                usage.cost = (usage.cost or 0) + tokens * self.prices[name] / 1e6
        self.on_progress(usage)
        return now


def has_shape(value: Any, shape: Any) -> bool:
    """Whether `value` is of type `shape`, a list of as many shapes (`[str, ...]`: of any number), or a dict with such keys."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(k in value and has_shape(value[k], shape[k]) for k in shape)
    if isinstance(shape, list) and isinstance(value, list):
        shapes = shape[:1] * len(value) if ... in shape else shape
        return len(value) == len(shapes) and all(map(has_shape, value, shapes))
    return not isinstance(shape, list) and isinstance(value, shape)
