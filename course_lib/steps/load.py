"""Where rows come from: Python, files, a saved dataset, the hub, or the instructions of the course."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.paths import DATA
from course_lib.steps.base import DROP_REASON, GeneratorStep, Row
from course_lib.steps.files import READERS, ending, files_in, read_file, read_jsonl, reading, stream_jsonl
from course_lib.steps.prompts import with_question

TEST_SPLITS = ("test", "val", "dev", "eval")  # how the names of splits begin that nothing is trained on
# Columns of rows that left an earlier run, which do not bind this one.
EARLIER_RUN = (DROP_REASON, "dropped_by")


class LoadRows(GeneratorStep):
    """Base of the steps below; `num_examples` is how many rows they read at most."""

    num_examples: int | None = None

    def open_dataset(self):
        """A `datasets.Dataset`, or anything else with a length that yields dicts."""
        raise TypeError(f"{type(self).__name__} must define open_dataset")

    @property
    def dataset(self):
        if getattr(self, "_dataset", None) is None:
            self._dataset = self.open_dataset()
        return self._dataset

    @property
    def outputs(self) -> list[str]:
        return [*self._columns, "instruction"] if self._asks_in_messages else self._columns

    @property
    def _columns(self) -> list[str]:
        columns = getattr(self.dataset, "column_names", None) or (
            name for row in self.dataset for name in row
        )
        return [name for name in dict.fromkeys(columns) if name not in EARLIER_RUN]

    @property
    def _asks_in_messages(self) -> bool:
        """Whether rows are conversations, whose last question is the instruction."""
        columns = self._columns
        return "messages" in columns and "instruction" not in {*columns, *self.output_mappings.values()}

    def check(self) -> None:
        if not self.count():
            raise InputError(
                f"Step {self.name!r} has no rows. Give at least one, data=[{{'instruction': '…'}}]."
            )

    def count(self) -> int:
        rows = len(self.dataset)
        return rows if self.num_examples is None else min(rows, self.num_examples)

    def process(self, offset: int = 0) -> Iterator[tuple[list[Row], bool]]:
        total, columns, in_messages = self.count(), self._columns, self._asks_in_messages
        rows = iter(islice(self.dataset, offset, total))
        for start in range(offset, max(total, 1), self.batch_size):
            batch = [
                {name: _listed(row.get(name)) for name in columns} for row in islice(rows, self.batch_size)
            ]
            if in_messages:
                batch = [_with_instruction(row, number) for number, row in enumerate(batch, start + 1)]
            yield batch, start + self.batch_size >= total


def _with_instruction(row: Row, number: int) -> Row:
    try:
        return with_question(row)
    except InputError as error:
        raise InputError(f"Row {number}, 'messages': {error}") from error


def _listed(value: Any) -> Any:
    """Lists for numpy's arrays, which pandas makes of the lists in a Parquet file."""
    return [_listed(item) for item in value] if isinstance(value, np.ndarray) else value


class LoadDataFromDicts(LoadRows):
    """Rows from a list of dicts, a dict of lists, a pandas DataFrame or a `datasets.Dataset`."""

    data: Any

    @property
    def dataset(self):
        if isinstance(self.data, list) and all(isinstance(row, dict) for row in self.data):
            return self.data
        from datasets import Dataset
        from pandas import DataFrame

        try:
            if isinstance(self.data, DataFrame):
                return Dataset.from_pandas(self.data, preserve_index=False)
            if isinstance(self.data, dict) and all(isinstance(column, list) for column in self.data.values()):
                return Dataset.from_dict(self.data)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"The rows of step {self.name!r} are no table: {error}") from error
        if isinstance(self.data, Dataset):
            return self.data
        raise InputError(
            f"The rows of step {self.name!r} are a {type(self.data).__name__}; allowed: a list of dicts, a "
            "dict of lists, a pandas DataFrame, or one split of a datasets.Dataset."
        )


class LoadDataFromHub(LoadRows):
    """Rows of a dataset on the Hugging Face hub."""

    repo_id: str | None = None
    config: str | None = None
    split: str | None = "train"
    revision: str | None = None
    token: str | None = None

    def open_dataset(self):
        from datasets import load_dataset

        if not self.repo_id:
            raise InputError(f"Step {self.name!r} needs repo_id='org/name', here or in run(parameters=…).")
        try:
            return load_dataset(
                self.repo_id, self.config, split=self.split, revision=self.revision, token=self.token
            )
        except (OSError, ValueError) as error:
            place = "the folder" if Path(self.repo_id).is_dir() else "the hub"
            raise InputError(
                f"The dataset {self.repo_id!r} could not be loaded from {place} "
                f"({' '.join(str(error).split())}). Check the name, the config {self.config!r}, the split "
                f"{self.split!r}, the network and, for a private or gated one, HF_TOKEN; or give a file."
            ) from error


class LoadDataFromFileSystem(LoadRows):
    """Rows of a file: JSON Lines, JSON, CSV, TSV, Parquet, Arrow, or text with an instruction on each line.

    Of a folder, the rows of all such files in it.
    """

    data_files: str

    def open_dataset(self):
        return read_file(Path(self.data_files), self.num_examples)


class LoadDataFromDisk(LoadRows):
    """Rows of a folder that `Dataset.save_to_disk` or `Distiset.save_to_disk` wrote."""

    dataset_path: str
    config: str = "default"
    split: str | None = "train"

    def open_dataset(self):
        from datasets import load_from_disk

        folder = Path(self.dataset_path)
        # A Distiset, or a folder of several datasets.
        configs = sorted({file.parent.name for file in folder.glob("*/dataset_*.json")})
        if configs and not (folder / "dataset_dict.json").is_file():
            if self.config not in configs:
                allowed = ", ".join(f"config={config!r}" for config in configs)
                raise InputError(f"{folder} has no dataset {self.config!r}; allowed: {allowed}.")
            folder /= self.config
        try:
            saved = load_from_disk(str(folder))
        except Exception as error:  # a damaged folder makes it raise errors of many kinds
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"{folder} is not a saved dataset ({reason}). Give a folder that save_to_disk wrote."
            ) from error
        if not isinstance(saved, dict) or self.split is None:
            return saved
        if self.split not in saved:
            raise InputError(f"{folder} has no split {self.split!r}; allowed: {', '.join(saved)}.")
        return saved[self.split]


def load_from(source: str | Path, **kwargs: Any) -> LoadRows:
    """The step that reads `source`: a file, a folder of files or of a saved dataset, or a hub id."""
    path = Path(source).expanduser()
    if path.is_dir() and not is_saved(path):
        return LoadDataFromFileSystem(data_files=str(path), **kwargs)
    if path.is_dir():
        return LoadDataFromDisk(dataset_path=str(path), **kwargs)
    if path.is_file():
        return LoadDataFromFileSystem(data_files=str(path), **kwargs)
    if str(source).count("/") == 1 and ending(path) not in READERS and not str(source).startswith((".", "~")):
        return LoadDataFromHub(repo_id=str(source), **kwargs)
    raise InputError(
        f"There is no file or folder {source}. Give a .jsonl, .csv or .parquet file, a saved dataset, or a "
        "hub id."
    )


def is_saved(folder: Path) -> bool:
    """Whether `datasets` or a Distiset was saved in `folder`."""
    marks = ("dataset_dict.json", "dataset_info.json", "*/dataset_dict.json", "*/dataset_info.json")
    return any(True for mark in marks for _ in folder.glob(mark))


def load_splits(source: Any) -> dict[str, Iterable[Row]]:
    """The rows of all splits of what people have; files name theirs, `train` where they name none.

    Args:
        source: a file, a folder of files or of a saved dataset, a hub id; a list of such; a `Distiset`, of which the
            dataset `default` is read; a `DatasetDict`, a `Dataset`, a pandas DataFrame, or a list of rows.
    """
    if isinstance(source, list | tuple) and source and isinstance(source[0], str | Path):
        parts = [(name, rows) for part in source for name, rows in load_splits(part).items()]
        splits: dict[str, list[Iterable[Row]]] = {}
        for name, rows in parts:
            splits.setdefault(name, []).append(rows)
        return {name: chain.from_iterable(rows) for name, rows in splits.items()}
    if isinstance(source, str | Path):
        return _stored_splits(source)
    if isinstance(source, dict) and any(isinstance(part, dict) for part in source.values()):
        source = source.get("default") or next(iter(source.values()))
    if isinstance(source, dict) and not any(isinstance(part, list) for part in source.values()):
        return dict(source)
    return {"train": LoadDataFromDicts(data=source).dataset}


def _stored_splits(source: str | Path) -> dict[str, Iterable[Row]]:
    path = Path(source).expanduser()
    if path.is_dir() and not is_saved(path):
        return load_splits(files_in(path))
    if path.is_file():
        stem = path.name.partition(".")[0].lower()
        name = stem if stem.startswith(TEST_SPLITS) else "train"
        return {name: _streamed(path) if ending(path) in (".jsonl", ".json") else read_file(path)}
    loaded = load_from(source, split=None).dataset
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _streamed(path: Path) -> Iterator[Row]:
    with reading(path):
        yield from stream_jsonl(path)


def shipped_instructions(split: str = "train") -> list[Row]:
    """The instructions of the course with `id`, `topic` and `kind`; splits `train` and `test`."""
    rows = read_jsonl(DATA / "instructions.jsonl")
    chosen = [{k: v for k, v in row.items() if k != "split"} for row in rows if row["split"] == split]
    if not chosen:
        raise InputError(
            f"There is no split {split!r}; allowed: {', '.join(sorted({r['split'] for r in rows}))}."
        )
    return chosen
