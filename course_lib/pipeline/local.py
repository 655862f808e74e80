"""Run a pipeline here: one process, one step after the other, rows kept on disk between steps.

Rows pass between steps in small files, so memory does not grow with their number, and a model is loaded once and
unloaded after the last step that needs it. What makes a killed run go on is the cache of results, not these files.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm.auto import tqdm

from course_lib.distiset import Distiset
from course_lib.errors import GraphError, InputError
from course_lib.pipeline.graph import Graph
from course_lib.pipeline.streams import Numbered, Stream, batches, dataset_from_shards, storing
from course_lib.steps.base import DROP_REASON, GeneratorStep, Step, open_pipelines
from course_lib.steps.load import LoadDataFromDicts, LoadGivenDataset


@dataclass
class Report:
    """What a run did: rows, drops by reason, the usage of each model (see `llms.base.Usage`), seconds.

    `columns` says what became of the columns of a file (see `job.columns_by_use`).
    """

    rows_in: int = 0
    rows_out: int = 0
    drops: Counter = field(default_factory=Counter)
    models: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    columns: dict[str, list[str]] = field(default_factory=dict)


class Pipeline:
    """Steps and their connections; `run()` gives a `Distiset`.

    Steps made inside `with Pipeline() as pipeline:` belong to it. `a >> [b, c] >> d` connects them.
    """

    def __init__(self, name: str = "pipeline", description: str = ""):
        self.name, self.description = name, description
        self.graph = Graph()
        self._fed: Step | None = None

    def __enter__(self) -> "Pipeline":
        open_pipelines.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        open_pipelines.remove(self)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, steps={list(self.graph.steps)})"

    def add(self, step: Step) -> None:
        self.graph.add(step)

    def connect(self, source: Step, target: Step) -> None:
        self.graph.connect(source, target)

    def run(
        self,
        parameters: dict[str, dict[str, Any]] | None = None,
        dataset: Any = None,
        use_cache: bool = True,
        progress: bool | None = None,
    ) -> Distiset:
        """Run all steps.

        Args:
            parameters: `{step.name: {attribute: value}}`; for a task also `{"llm": {"generation_kwargs": {…}}}`.
            dataset: rows for the steps that nothing is connected to: a `datasets.Dataset` or a list of dicts.
            use_cache: False computes everything anew.
            progress: a bar per step; by default only on a terminal.

        Returns:
            A `Distiset` with the rows of each last step (`"default"` if there is one) and, under `"dropped"`, the
            rows that left on the way, each with its `drop_reason`. `distiset.report` counts them.

        Raises:
            GraphError, InputError, WeightsError: before any model is loaded, wherever that is possible.
            CacheError, OutputError: a full disk.
        """
        self._feed(dataset)
        self._set_parameters(parameters or {})
        self.graph.check()
        llms = list({id(llm): llm for step in self.graph.steps.values() for llm in step.llms}.values())
        for llm in llms:
            llm.check()
        with _caching(llms, use_cache):
            return _Run(self.graph, llms, progress).result()

    def _set_parameters(self, parameters: dict[str, dict[str, Any]]) -> None:
        for name, given in parameters.items():
            if name not in self.graph.steps:
                raise InputError(f"There is no step {name!r}. The steps are: {', '.join(self.graph.steps)}.")
            self.graph.steps[name].set_parameters(given)

    def _feed(self, dataset: Any) -> None:
        """Put `dataset` before the steps without one, in place of the rows that an earlier run was given."""
        if self._fed is not None:
            self.graph.remove(self._fed)
            self._fed = None
        if dataset is None:
            return
        firsts = [step for name, step in self.graph.steps.items() if not self.graph.parents[name]]
        starts = [step for step in firsts if not isinstance(step, GeneratorStep)]
        if not starts:
            raise GraphError(
                "run(dataset=…) was given rows, but every first step loads its own. Remove one of them."
            )
        listed = isinstance(dataset, list)
        source = (
            LoadDataFromDicts(data=dataset, pipeline=self)
            if listed
            else LoadGivenDataset(given=dataset, pipeline=self)
        )
        self._fed = source
        for step in starts:
            self.connect(source, step)


@contextmanager
def _caching(llms: list[Any], allowed: bool) -> Iterator[None]:
    """Without `allowed`, no model uses its cache inside."""
    before = [llm.use_cache for llm in llms]
    try:
        for llm in llms:
            llm.use_cache = llm.use_cache and allowed
        yield
    finally:
        for llm, use_cache in zip(llms, before, strict=True):
            llm.use_cache = use_cache


class _Run:
    """The state of one run: where the rows of each step lie, and which rows have left."""

    def __init__(self, graph: Graph, llms: list[Any], progress: bool | None):
        self.graph, self.llms = graph, llms
        self.hide_bars = None if progress is None else not progress
        with storing("the folder for temporary files"):
            self.folder = TemporaryDirectory(prefix="course_lib-", ignore_cleanup_errors=True)
        self.streams: dict[str, Stream] = {}
        self.dropped = self._stream("dropped")
        self.left: set[tuple] = set()
        self.report = Report()
        self.loaded: list[Step] = []

    def result(self) -> Distiset:
        started, usage, order = time.perf_counter(), self._usage(), self.graph.order()
        try:
            for position, step in enumerate(order, 1):
                self._run_step(step)
                needed = {llm.fingerprint for later in order[position:] for llm in later.llms}
                self._unload([s for s in self.loaded if not needed & {llm.fingerprint for llm in s.llms}])
        finally:
            self._unload(list(self.loaded))
        leaves = self.graph.leaves()
        self.report.rows_out = sum(self.streams[step.name].rows for step in leaves)
        for name, counts in self._usage().items():
            self.report.models[name] = {key: value - usage[name][key] for key, value in counts.items()}
        self.report.seconds = time.perf_counter() - started
        datasets = {
            "default" if len(leaves) == 1 else step.name: self._dataset(self.streams[step.name], step)
            for step in leaves
        }
        if self.dropped.rows:
            datasets["dropped"] = self._dataset(self.dropped)
        return Distiset.of(datasets, report=self.report, keep=self.folder)

    def _stream(self, name: str, lineage: tuple[str, ...] = ()) -> Stream:
        return Stream(Path(self.folder.name) / name, lineage)

    def _dataset(self, stream: Stream, step: Step | None = None):
        shards = ([row for _, row in shard] for shard in stream.shards())
        with storing(stream.folder):
            return dataset_from_shards(
                shards, stream.folder, sorted(self.graph.columns[step.name]) if step else ()
            )

    def _run_step(self, step: Step) -> None:
        parents = [self.streams[name] for name in self.graph.parents[step.name]]
        stream = self.streams[step.name] = self._stream(step.name, parents[0].lineage if parents else ())
        self.loaded.append(step)
        step.load()
        total = parents[0].rows if parents else step.count()
        with tqdm(total=total, desc=step.name, unit="row", disable=self.hide_bars) as bar:
            for llm in step.llms:
                llm.on_progress = lambda usage, bar=bar: bar.set_postfix_str(_pace(usage))
            for rows in self._processed(step, parents, stream) if parents else self._generated(step):
                kept = self._without_dropped(step, rows, stream.lineage)
                stream.write(kept)
                bar.update(len(kept))
            bar.total = bar.n
            bar.refresh()

    def _generated(self, step: Step) -> Iterator[list[Numbered]]:
        numbers = count()
        for rows in step.generate_rows():
            self.report.rows_in += len(rows)
            yield [(next(numbers), row) for row in rows]

    def _processed(self, step: Step, parents: list[Stream], stream: Stream) -> Iterator[list[Numbered]]:
        following = 0
        for numbers, inputs in batches(step, parents):
            rows = [row for batch in step.apply(*inputs) for row in batch]
            if len(rows) != len(numbers):
                # Rows can no longer be matched with those of other branches: they get numbers of their own.
                stream.lineage = (*parents[0].lineage, step.name)
                if len(rows) < len(numbers):
                    self.report.drops[f"removed by {step.name}"] += len(numbers) - len(rows)
            # Numbers rise over the whole stream, also when only a later batch changed how many rows there are.
            if stream.lineage != parents[0].lineage:
                numbers = range(following, following + len(rows))
            following = max([following - 1, *numbers]) + 1
            yield list(zip(numbers, rows, strict=True))

    def _without_dropped(self, step: Step, rows: list[Numbered], lineage: tuple[str, ...]) -> list[Numbered]:
        """The rows that stay; a row that two branches drop leaves once."""
        dropped = [
            (number, row)
            for number, row in rows
            if row.get(DROP_REASON) and (lineage, number) not in self.left
        ]
        self.left.update((lineage, number) for number, _ in dropped)
        self.report.drops.update(row[DROP_REASON] for _, row in dropped)
        self.dropped.write([(number, {**row, "dropped_by": step.name}) for number, row in dropped])
        return [(number, row) for number, row in rows if not row.get(DROP_REASON)]

    def _unload(self, steps: list[Step]) -> None:
        for step in steps:
            self.loaded.remove(step)
            step.unload()

    def _usage(self) -> dict[str, Counter]:
        models: dict[str, Counter] = {}
        for llm in self.llms:
            models.setdefault(llm.model_name, Counter()).update(vars(llm.usage))
        return models


def _pace(usage) -> str:
    speed = f", {usage.output_tokens / usage.writing_seconds:.0f} tokens/s" if usage.output_tokens else ""
    return f"{usage.new} new, {usage.cached} cached{speed}"
