"""Run a pipeline here: one process, one step after the other, rows kept on disk between steps.

Rows pass between steps in small files, so memory does not grow with their number, and a model is loaded once and
unloaded after the last step that needs it. What makes a killed run go on is the cache of results, not these files.
"""

import pickle
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm.auto import tqdm

from course_lib.distiset import Distiset, dataset_from_shards
from course_lib.errors import GraphError, InputError, writing
from course_lib.pipeline.graph import Graph
from course_lib.steps.base import DROP_REASON, GeneratorStep, Row, Step, open_pipelines
from course_lib.steps.load import LoadDataFromDicts, LoadDataset

Numbered = tuple[int, Row]


@dataclass
class Report:
    """What a run did: rows, drops by reason, the usage of each model (see `llms.base.Usage`), seconds."""

    rows_in: int = 0
    rows_out: int = 0
    drops: Counter = field(default_factory=Counter)
    models: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


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
        self._unfeed()
        if dataset is not None:
            self._feed(dataset)
        self._set_parameters(parameters or {})
        self.graph.check()
        for step in self.graph.steps.values():
            for llm in step.llms:
                llm.check()
        llms = {id(llm): llm for step in self.graph.steps.values() for llm in step.llms}.values()
        asked = {id(llm): llm.use_cache for llm in llms}
        try:
            for llm in llms:
                llm.use_cache = llm.use_cache and use_cache
            return _Run(self.graph, progress).result()
        finally:
            for llm in llms:
                llm.use_cache = asked[id(llm)]

    def _set_parameters(self, parameters: dict[str, dict[str, Any]]) -> None:
        for name, given in parameters.items():
            if name not in self.graph.steps:
                raise InputError(f"There is no step {name!r}. The steps are: {', '.join(self.graph.steps)}.")
            self.graph.steps[name].set_parameters(given)

    def _feed(self, dataset: Any) -> None:
        starts = [s for n, s in self.graph.steps.items() if not self.graph.parents[n] and not isinstance(s, GeneratorStep)]
        if not starts:
            raise GraphError("run(dataset=…) was given rows, but every first step loads its own. Remove one of them.")
        kind, rows = (LoadDataFromDicts, "data") if isinstance(dataset, list) else (_GivenDataset, "given")
        source = self._fed = kind(**{rows: dataset}, pipeline=self)
        for step in starts:
            self.connect(source, step)

    def _unfeed(self) -> None:
        """Take away the rows that an earlier run was given."""
        if self._fed is not None:
            self.graph.remove(self._fed)
            self._fed = None


class _GivenDataset(LoadDataset):
    given: Any

    def open_dataset(self):
        return self.given


class _Run:
    """The state of one run: where the rows of each step lie, and which rows have left."""

    def __init__(self, graph: Graph, progress: bool | None):
        self.graph, self.order = graph, graph.order()
        self.hide_bars = None if progress is None else not progress
        with _storing("the folder for temporary files"):
            self.folder = TemporaryDirectory(prefix="course_lib-", ignore_cleanup_errors=True)
        self.streams: dict[str, _Stream] = {}
        self.dropped = _Stream(Path(self.folder.name) / "dropped", ())
        self.left: set[tuple] = set()
        self.report = Report()
        self.loaded: list[Step] = []

    def result(self) -> Distiset:
        started = time.perf_counter()
        usage = self._usage_now()
        try:
            for position, step in enumerate(self.order):
                self._run_step(step)
                needed = {llm.fingerprint for later in self.order[position + 1 :] for llm in later.llms}
                self._unload([s for s in self.loaded if not needed & {llm.fingerprint for llm in s.llms}])
        finally:
            self._unload(self.loaded)
        leaves = self.graph.leaves()
        self.report.rows_out = sum(self.streams[step.name].rows for step in leaves)
        self.report.models = _difference(self._usage_now(), usage)
        self.report.seconds = time.perf_counter() - started
        names = ["default"] if len(leaves) == 1 else [step.name for step in leaves]
        datasets = {
            name: self._dataset(self.streams[step.name], self.graph.columns[step.name])
            for name, step in zip(names, leaves, strict=True)
        }
        if self.dropped.rows:
            datasets["dropped"] = self._dataset(self.dropped)
        return Distiset.of(datasets, report=self.report, keep=self.folder)

    def _dataset(self, stream: "_Stream", columns: Iterable[str] = ()):
        shards = ([row for _, row in shard] for shard in stream.shards())
        with _storing(stream.folder):
            return dataset_from_shards(shards, stream.folder, sorted(columns))

    def _run_step(self, step: Step) -> None:
        parents = [self.streams[name] for name in self.graph.parents[step.name]]
        out = self.streams[step.name] = _Stream(Path(self.folder.name) / step.name, parents[0].lineage if parents else ())
        self.loaded.append(step)
        step.load()
        total = step.count() if isinstance(step, GeneratorStep) else parents[0].rows
        with tqdm(total=total, desc=step.name, unit="row", disable=self.hide_bars) as bar:
            for llm in step.llms:
                llm.on_progress = lambda usage, bar=bar: bar.set_postfix_str(_pace(usage))
            for shard in self._processed(step, parents, out):
                out.write(shard)
                bar.update(len(shard))
            bar.total = bar.n
            bar.refresh()

    def _processed(self, step: Step, parents: list["_Stream"], out: "_Stream") -> Iterator[list[Numbered]]:
        if isinstance(step, GeneratorStep):
            numbers = count()
            for rows in step.generate_rows():
                self.report.rows_in += len(rows)
                yield self._without_dropped(step, [(next(numbers), row) for row in rows], out)
            return
        highest = -1
        for numbered in _joined(step, parents):
            made = [row for rows in step.apply(*([row for _, row in one] for one in numbered)) for row in rows]
            old = [number for number, _ in numbered[0]]
            if len(made) != len(old):
                # Rows can no longer be matched with those of other branches: they get numbers of their own.
                out.lineage = (*parents[0].lineage, step.name)
                if len(made) < len(old):
                    self.report.drops[f"removed by {step.name}"] += len(old) - len(made)
            # Numbers rise over the whole stream, also when only a later batch changed how many rows there are.
            numbers = old if out.lineage == parents[0].lineage else [highest + 1 + i for i in range(len(made))]
            highest = max([highest, *numbers])
            yield self._without_dropped(step, list(zip(numbers, made, strict=True)), out)

    def _without_dropped(self, step: Step, numbered: list[Numbered], out: "_Stream") -> list[Numbered]:
        gone = [(number, row) for number, row in numbered if row.get(DROP_REASON)]
        new = [(number, row) for number, row in gone if (out.lineage, number) not in self.left]
        self.left.update((out.lineage, number) for number, _ in new)
        self.report.drops.update(row[DROP_REASON] for _, row in new)
        if new:
            self.dropped.write([(number, {**row, "dropped_by": step.name}) for number, row in new])
        return [(number, row) for number, row in numbered if not row.get(DROP_REASON)]

    def _unload(self, steps: list[Step]) -> None:
        for step in list(steps):
            self.loaded.remove(step)
            step.unload()

    def _usage_now(self) -> dict[str, dict[str, float]]:
        models: dict[str, Counter] = {}
        for llm in {id(llm): llm for step in self.order for llm in step.llms}.values():
            models.setdefault(llm.model_name, Counter()).update(vars(llm.usage))
        return models


class _Stream:
    """The rows of one step on disk, in shards. `lineage` tells streams whose row numbers mean the same."""

    def __init__(self, folder: Path, lineage: tuple[str, ...]):
        self.folder, self.lineage = folder, lineage
        self.files: list[Path] = []
        self.rows = 0
        with _storing(folder):
            folder.mkdir()

    def write(self, shard: list[Numbered]) -> None:
        file = self.folder / f"{len(self.files):06d}.pickle"
        with _storing(self.folder):
            file.write_bytes(pickle.dumps(shard, protocol=5))
        self.files.append(file)
        self.rows += len(shard)

    def shards(self) -> Iterator[list[Numbered]]:
        for file in self.files:
            yield pickle.loads(file.read_bytes())

    def __iter__(self) -> Iterator[Numbered]:
        for shard in self.shards():
            yield from shard


def _storing(folder: Path | str):
    return writing("The rows of this run", folder, "Free some space there, or set TMPDIR to a folder on another disk")


def _joined(step: Step, parents: list[_Stream]) -> Iterator[tuple[list[Numbered], ...]]:
    """Batches for `step`: for each parent the rows with the same numbers, in the same order."""
    if len({parent.lineage for parent in parents}) > 1:
        raise GraphError(
            f"Step {step.name!r} joins branches whose rows no longer match: a step before it changed how many there are "
            f"({'; '.join(', '.join(parent.lineage) or 'unchanged' for parent in parents)}). Move that step after the join."
        )
    matched = ((one,) for one in parents[0]) if len(parents) == 1 else _matched([iter(parent) for parent in parents])
    for batch in _batched(matched, step.input_batch_size):
        yield tuple(list(one) for one in zip(*batch, strict=True))


def _matched(streams: list[Iterator[Numbered]]) -> Iterator[tuple[Numbered, ...]]:
    """The numbers that all streams still have; numbers rise in each."""
    end = (float("inf"), {})
    heads = [next(stream, end) for stream in streams]
    while end not in heads:
        highest = max(number for number, _ in heads)
        if all(number == highest for number, _ in heads):
            yield tuple(heads)
            heads = [next(stream, end) for stream in streams]
        else:
            heads = [h if h[0] == highest else next(s, end) for h, s in zip(heads, streams, strict=True)]


def _batched(items: Iterable, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _pace(usage) -> str:
    speed = f", {usage.output_tokens / usage.writing_seconds:.0f} tokens/s" if usage.output_tokens else ""
    return f"{usage.new} new, {usage.cached} cached{speed}"


def _difference(after: dict[str, dict], before: dict[str, dict]) -> dict[str, dict[str, float]]:
    return {name: {key: value - before[name][key] for key, value in counts.items()} for name, counts in after.items()}
