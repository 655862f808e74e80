"""Where rows come from: Python, files, a saved dataset, the hub, or the instructions that ship with the course."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from course_lib.errors import InputError
from course_lib.paths import DATA
from course_lib.steps.base import DROP_REASON, GeneratorStep, Row

READERS = {".jsonl": "JSON Lines", ".json": "JSON Lines", ".csv": "CSV", ".parquet": "Parquet"}


class LoadDataFromDicts(GeneratorStep):
    """Rows from a list of dicts."""

    data: list[Row]

    @property
    def outputs(self) -> list[str]:
        return [
            name for name in dict.fromkeys(name for row in self.data for name in row) if name != DROP_REASON
        ]

    def check(self) -> None:
        if not self.data:
            raise InputError(f"Step {self.name!r} has no rows. Give data=[{{'instruction': '…'}}].")

    def count(self) -> int:
        return len(self.data)

    def process(self, offset: int = 0) -> Iterator[tuple[list[Row], bool]]:
        columns = self.outputs
        for start in range(offset, max(len(self.data), 1), self.batch_size):
            part = self.data[start : start + self.batch_size]
            rows = [{name: row.get(name) for name in columns} for row in part]
            yield rows, start + self.batch_size >= len(self.data)


class LoadDataset(GeneratorStep):
    """Rows of a `datasets.Dataset` that `open_dataset` finds. Base of the steps below."""

    num_examples: int | None = None

    def open_dataset(self):
        raise TypeError(f"{type(self).__name__} must define open_dataset")

    @property
    def dataset(self):
        if getattr(self, "_dataset", None) is None:
            self._dataset = self.open_dataset()
        return self._dataset

    @property
    def outputs(self) -> list[str]:
        names = getattr(self.dataset, "column_names", None) or self.dataset[0]
        return [
            name for name in names if name != DROP_REASON
        ]  # that of an earlier run does not bind this one

    def check(self) -> None:
        if not self.count():
            raise InputError(f"Step {self.name!r} found no rows.")

    def count(self) -> int:
        rows = len(self.dataset)
        return rows if self.num_examples is None else min(rows, self.num_examples)

    def process(self, offset: int = 0) -> Iterator[tuple[list[Row], bool]]:
        columns = self.outputs
        chosen = islice(self.dataset, offset, self.count())
        rows = ({name: row[name] for name in columns} for row in chosen)
        for start in range(offset, max(self.count(), 1), self.batch_size):
            yield list(islice(rows, self.batch_size)), start + self.batch_size >= self.count()


class LoadGivenDataset(LoadDataset):
    """Rows of a `datasets.Dataset` in memory."""

    given: Any

    def open_dataset(self):
        return self.given


class LoadDataFromHub(LoadDataset):
    """Rows of a dataset on the Hugging Face hub."""

    repo_id: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    token: str | None = None

    def open_dataset(self):
        from datasets import load_dataset

        if not self.repo_id:
            raise InputError(
                f"Step {self.name!r} needs repo_id='org/name', here or in pipeline.run(parameters=…)."
            )
        try:
            return load_dataset(
                self.repo_id, self.config, split=self.split, revision=self.revision, token=self.token
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"The dataset {self.repo_id!r} could not be loaded from the hub ({reason}). Check the name, the split "
                f"{self.split!r}, the network and, for a private dataset, HF_TOKEN; or give a local file."
            ) from error


class LoadDataFromFileSystem(LoadDataset):
    """Rows of a JSON Lines, CSV or Parquet file; the ending tells which."""

    data_files: str

    def open_dataset(self):
        return read_file(Path(self.data_files))


class LoadDataFromDisk(LoadDataset):
    """Rows of a folder that `Dataset.save_to_disk` or `Distiset.save_to_disk` wrote."""

    dataset_path: str
    config: str = "default"
    split: str = "train"

    def open_dataset(self):
        from datasets import load_from_disk

        folder = Path(self.dataset_path)
        folder = folder / self.config if (folder / self.config).is_dir() else folder
        try:
            saved = load_from_disk(str(folder))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} is not a saved dataset ({error}). Give a folder that save_to_disk wrote."
            ) from error
        if isinstance(saved, dict) and self.split not in saved:
            raise InputError(f"{folder} has no split {self.split!r}; allowed: {', '.join(saved)}.")
        return saved[self.split] if isinstance(saved, dict) else saved


def load_from(source: str | Path, **kwargs: Any) -> LoadDataset:
    """The step that reads `source`: a file, a folder of a saved dataset, or a hub id."""
    path = Path(source).expanduser()
    if path.is_dir():
        return LoadDataFromDisk(dataset_path=str(path), **kwargs)
    if path.is_file():
        return LoadDataFromFileSystem(data_files=str(path), **kwargs)
    if (
        str(source).count("/") == 1
        and path.suffix.lower() not in READERS
        and not str(source).startswith((".", "~"))
    ):
        return LoadDataFromHub(repo_id=str(source), **kwargs)
    raise InputError(
        f"There is no file or folder {source}. Give a .jsonl, .csv or .parquet file, a saved dataset, or a hub id."
    )


def read_file(path: Path):
    """The rows of a file: a `datasets.Dataset`, or a list for a JSON Lines file, whose lines may differ in kind.

    Raises:
        InputError: unknown ending, missing or empty file, or a line that is not a JSON object.
    """
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    ending = path.suffix.lower()
    if ending not in READERS:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'}; allowed: {', '.join(READERS)}.")
    if not path.is_file() or not path.stat().st_size:
        raise InputError(
            f"{path} is {'empty' if path.exists() else 'missing'}. Give a file with one instruction per row."
        )
    if READERS[ending] == "JSON Lines":
        rows = read_jsonl(path)
        columns = {name: None for row in rows for name in row}
        return [{**columns, **row} for row in rows]
    read = Dataset.from_csv if ending == ".csv" else Dataset.from_parquet
    try:
        return read(str(path))
    except (DatasetGenerationError, OSError, ValueError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read as {READERS[ending]}: {cause}") from error


def read_jsonl(path: Path) -> list[Row]:
    """One dict per line that is not blank."""
    rows = []
    for number, line in enumerate(
        path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), start=1
    ):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number} is not JSON ({error.msg}): {line[:60]!r}. One JSON object per line."
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f'{path}, line {number} is {line[:60]!r}. Allowed: a JSON object such as {{"instruction": "…"}}.'
            )
        rows.append(row)
    if not rows:
        raise InputError(
            f'{path} holds no rows. Write one JSON object per line, such as {{"instruction": "…"}}.'
        )
    return rows


def shipped_instructions(split: str = "train") -> list[Row]:
    """The instructions of the course, each with `id`, `instruction`, `topic`, `kind`; splits `train` and `test`."""
    rows = read_jsonl(DATA / "instructions.jsonl")
    chosen = [{k: v for k, v in row.items() if k != "split"} for row in rows if row["split"] == split]
    if not chosen:
        raise InputError(
            f"There is no split {split!r}; allowed: {', '.join(sorted({r['split'] for r in rows}))}."
        )
    return chosen
