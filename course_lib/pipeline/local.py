"""Run a pipeline here: one process, one step after the other, rows kept on disk between steps.

Rows pass between steps in files, so memory does not grow with their number; a model is loaded once, and
unloaded after the last step that needs it. A killed run goes on by the cache of results, not by these files.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

from tqdm.auto import tqdm

from course_lib.distiset import Distiset
from course_lib.errors import InputError
from course_lib.pipeline.graph import Graph
from course_lib.pipeline.streams import Numbered, Stream, batches, storing
from course_lib.steps.base import DROP_REASON, Step, open_pipelines


@dataclass
class Report:
    """What a run did: rows, drops by reason, the usage of each model (see `llms.base.Usage`), seconds.

    `columns` says what became of the columns of a file (see `job.columns_by_use`), and `ahead`, after a dry run, what all
    rows will ask of each model: requests, tokens and, where it has prices, dollars.
    """

    rows_in: int = 0
    rows_out: int = 0
    drops: Counter = field(default_factory=Counter)
    models: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    columns: dict[str, list[str]] = field(default_factory=dict)
    ahead: dict[str, dict[str, float]] = field(default_factory=dict)


class Pipeline:
    """Steps and their connections; `run()` gives a `Distiset`.

    Steps made inside `with Pipeline() as pipeline:` belong to it. `a >> [b, c] >> d` connects them.
    """

    def __init__(self, name: str = "pipeline", description: str = ""):
        self.name, self.description = name, description
        self.graph = Graph()
        self.add, self.connect = self.graph.add, self.graph.connect

    def __enter__(self) -> "Pipeline":
        open_pipelines.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        open_pipelines.remove(self)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, steps={list(self.graph.steps)})"

    def run(
        self,
        parameters: dict[str, dict[str, Any]] | None = None,
        dataset: Any = None,
        use_cache: bool = True,
        progress: bool | None = None,
    ) -> Distiset:
        """Run all steps.

        Args:
            parameters: `{step.name: {attribute: value}}`, or `{"llm": {"generation_kwargs": {…}}}`.
            dataset: rows for the steps that nothing is connected to; see `LoadDataFromDicts`.
            use_cache: False computes everything anew.
            progress: a bar per step; by default only on a terminal.

        Returns:
            A `Distiset` with the rows of each last step (`"default"` if there is one) and, under `"dropped"`,
            the rows that left on the way, each with its `drop_reason`. `distiset.report` counts them.

        Raises:
            GraphError, InputError, WeightsError: before any model is loaded, wherever that is possible.
            CacheError, OutputError: a full disk.
        """
        return self._run(parameters, dataset, use_cache, progress)

    def dry_run(
        self,
        parameters: dict[str, dict[str, Any]] | None = None,
        batch_size: int = 1,
        dataset: Any = None,
        progress: bool | None = None,
    ) -> Distiset:
        """`run` on the first `batch_size` rows of each first step, computed anew, to see that all works.

        It prints what all rows will ask of each model if they are like these, which `report.ahead` has too. What the
        cache holds by then is not asked again.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}; allowed: 1 or more.")
        distiset = self._run(parameters, dataset, use_cache=False, progress=progress, most_rows=batch_size)
        for model, counts in distiset.report.ahead.items():
            tokens = f"{counts['input_tokens']:,.0f} tokens read and {counts['output_tokens']:,.0f} written"
            cost = f", ${counts['cost']:,.2f}" if "cost" in counts else ""
            print(
                f"All rows ask {model} about {counts['new']:,.0f} times: {tokens}{cost}, less what the cache holds."
            )
        return distiset

    def _run(
        self,
        parameters: dict[str, dict[str, Any]] | None,
        dataset: Any,
        use_cache: bool,
        progress: bool | None,
        most_rows: int | None = None,
    ) -> Distiset:
        graph = self.graph if dataset is None else self.graph.fed(dataset)
        for name, given in (parameters or {}).items():
            if name not in graph.steps:
                raise InputError(f"There is no step {name!r}. The steps are: {', '.join(graph.steps)}.")
            graph.steps[name].set_parameters(given)
        columns = graph.check()
        llms = list({id(llm): llm for step in graph.steps.values() for llm in step.llms}.values())
        for llm in llms:
            llm.check()
        caching = [llm.use_cache for llm in llms]
        try:
            for llm in llms:
                llm.use_cache = llm.use_cache and use_cache
            return _Run(graph, llms, progress, most_rows).result(columns)
        finally:
            for llm, cached in zip(llms, caching, strict=True):
                llm.use_cache = cached


class _Run:
    """The state of one run: where the rows of each step lie, and which rows have left."""

    def __init__(self, graph: Graph, llms: list[Any], progress: bool | None, most_rows: int | None):
        self.graph, self.llms, self.most_rows = graph, llms, most_rows
        self.hide_bars = None if progress is None else not progress
        with storing("the folder for temporary files"):
            self.folder = TemporaryDirectory(prefix="course_lib-", ignore_cleanup_errors=True)
        self.streams: dict[str, Stream] = {}
        self.dropped = Stream(self.folder.name, "dropped")
        self.left: set[tuple] = set()
        self.report, self.rows_ahead = Report(), 0

    def result(self, columns: dict[str, set[str]]) -> Distiset:
        started, before, order = time.perf_counter(), self._usage(), self.graph.order()
        loaded: list[Step] = []
        try:
            for position, step in enumerate(order, 1):
                loaded.append(step)
                self._run_step(step)
                needed = {llm.fingerprint for later in order[position:] for llm in later.llms}
                for done in [s for s in loaded if not needed & {llm.fingerprint for llm in s.llms}]:
                    loaded.remove(done)
                    done.unload()
        finally:
            for step in loaded:
                step.unload()
        leaves = {step.name: self.streams[step.name] for step in self.graph.leaves()}
        datasets = {name: stream.dataset(columns[name]) for name, stream in leaves.items()}
        if len(leaves) == 1:
            datasets = {"default": datasets.popitem()[1]}
        if self.dropped.rows:
            datasets["dropped"] = self.dropped.dataset()
        self.report.rows_out = sum(stream.rows for stream in leaves.values())
        for name, counts in self._usage().items():
            self.report.models[name] = {key: value - before[name][key] for key, value in counts.items()}
        if self.most_rows and self.rows_ahead > 0:
            times = self.rows_ahead / max(self.report.rows_in, 1)
            for name, counts in self.report.models.items():
                told = [key for key in ("new", "input_tokens", "output_tokens", "cost") if key in counts]
                self.report.ahead[name] = {key: counts[key] * times for key in told}
        self.report.seconds = time.perf_counter() - started
        return Distiset.of(datasets, report=self.report, keep=self.folder)

    def _run_step(self, step: Step) -> None:
        parents = [self.streams[name] for name in self.graph.parents[step.name]]
        lineage = parents[0].lineage if parents else ()
        stream = self.streams[step.name] = Stream(self.folder.name, step.name, lineage)
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
        if not parents:
            stream.schema()  # rows that no dataset could hold are refused before a model has worked on them

    def _generated(self, step: Step) -> Iterator[list[Numbered]]:
        numbers = count()
        self.rows_ahead += step.count() or math.nan  # nobody knows
        for rows in step.generate_rows():
            numbered = [(number, row) for row, number in zip(rows, numbers, strict=False)]
            wanted = [(number, row) for number, row in numbered if number < (self.most_rows or math.inf)]
            self.report.rows_in += len(wanted)
            yield wanted
            if len(wanted) < len(rows):
                return

    def _processed(self, step: Step, parents: list[Stream], stream: Stream) -> Iterator[list[Numbered]]:
        following = 0
        for numbers, inputs in batches(step, parents):
            rows = [row for batch in step.apply(*inputs) for row in batch]
            if len(rows) != len(numbers):
                # Rows can no longer be matched with those of other branches: they get numbers of their own.
                stream.lineage = (*parents[0].lineage, step.name)
                if len(rows) < len(numbers):
                    self.report.drops[f"removed by {step.name}"] += len(numbers) - len(rows)
            # Numbers rise over the whole stream, also when only a later batch changed the number of rows.
            if stream.lineage != parents[0].lineage:
                numbers = range(following, following + len(rows))
            following = max([following - 1, *numbers]) + 1
            yield list(zip(numbers, rows, strict=True))

    def _without_dropped(self, step: Step, rows: list[Numbered], lineage: tuple[str, ...]) -> list[Numbered]:
        """The rows that stay; a row that two branches drop leaves once."""
        leaving = [(n, row) for n, row in rows if row.get(DROP_REASON) and (lineage, n) not in self.left]
        self.left.update((lineage, number) for number, _ in leaving)
        self.report.drops.update(row[DROP_REASON] for _, row in leaving)
        self.dropped.write([(number, {**row, "dropped_by": step.name}) for number, row in leaving])
        return [(number, row) for number, row in rows if not row.get(DROP_REASON)]

    def _usage(self) -> dict[str, Counter]:
        models: dict[str, Counter] = {}
        for llm in self.llms:
            cost = {"cost": llm.usage.cost or 0.0} if llm.prices else {}
            counts = {key: value for key, value in vars(llm.usage).items() if key != "cost"}
            models.setdefault(llm.model_name, Counter()).update({**counts, **cost})
        return models


def _pace(usage) -> str:
    speed = f", {usage.output_tokens / usage.writing_seconds:.0f} tokens/s" if usage.writing_seconds else ""
    cost = f", ${usage.cost:.4f}" if usage.cost is not None else ""
    return f"{usage.new} new, {usage.cached} cached{speed}{cost}"
