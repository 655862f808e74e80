"""The result of a pipeline: datasets by name, to save, read back, push to the hub, or hand to a trainer."""

import json
import os
import random
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.errors import InputError, writing
from course_lib.pairs import Pair, pair_fault, reader
from course_lib.steps.filtering import key

CARD = "README.md"
MARK = "distiset.json"


class Distiset(dict):
    """A dict of `datasets.DatasetDict`, one for each last step of a pipeline.

    `distiset["default"]["train"]` holds the rows; `distiset["dropped"]["train"]`, where there is one, those
    that left, each with its `drop_reason`. `report` tells what the run did; `card` is the text of README.md.
    """

    report: Any = None
    card: str = ""

    @classmethod
    def of(cls, datasets: dict[str, Any], report: Any = None, keep: Any = None) -> "Distiset":
        """One split `train` for each dataset. `keep`, a folder of rows, is held as long as the Distiset."""
        from datasets import DatasetDict

        distiset = cls({name: DatasetDict({"train": dataset}) for name, dataset in datasets.items()})
        distiset.report, distiset._keep = report, keep
        return distiset

    def dropped_rows(self) -> list[dict[str, Any]]:
        """The rows that left the pipeline, each with its `drop_reason`."""
        return list(self["dropped"]["train"]) if "dropped" in self else []

    def rewrite_outcomes(self) -> Counter:
        """How many rewrites of EvolQuality were `used`, and how many were refused for which reason."""
        rows = [*self["default"]["train"], *self.dropped_rows()]
        return Counter(fault or "used" for row in rows for fault in row.get("evolution_failures") or [])

    def train_test_split(
        self, train_size: float, shuffle: bool = True, seed: int | None = None
    ) -> "Distiset":
        """A copy whose datasets have the splits `train` and `test`; all rows of a prompt are on one side, in all datasets.

        Prompts that differ in case and spaces alone count as one.

        Args:
            train_size: share of the prompts in `train`, above 0 and below 1.
            shuffle: whether prompts are drawn at random, by `seed`; otherwise the first ones go to `train`.
        """
        if not 0 < train_size < 1:
            raise InputError(f"train_size={train_size}; allowed: a share above 0 and below 1, such as 0.9.")
        for name, data in self.items():
            if set(data) != {"train"}:
                raise InputError(
                    f"The dataset {name!r} has the splits {', '.join(data)}; allowed: train alone."
                )
        prompts = {name: _prompts(data["train"]) for name, data in self.items()}
        different = list(dict.fromkeys(prompt for some in prompts.values() for prompt in some))
        if shuffle:
            random.Random(seed).shuffle(different)
        trained = set(different[: round(train_size * len(different))])
        split = Distiset({name: _by_prompt(data, prompts[name], trained) for name, data in self.items()})
        split.report, split.card, split._keep = self.report, self.card, getattr(self, "_keep", None)
        return split

    def save_to_disk(self, distiset_path: str | Path) -> None:
        """Write all datasets into a folder, whole or not at all; a Distiset that is there is replaced.

        What a killed save left is removed by the next one into the same folder, where only one at a time may
        write.

        Raises:
            InputError: the folder holds something else.
            OutputError: the disk is full, or the folder not ours to write; what was there is unchanged.
        """
        target = Path(distiset_path).expanduser()
        if (
            target.exists()
            and not (target / MARK).is_file()
            and (not target.is_dir() or any(target.iterdir()))
        ):
            raise InputError(
                f"{target} holds something else than a Distiset; nothing was written. Choose another folder."
            )
        with writing_out("The dataset", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _tidy(target)
            new, old = _beside(target)
            try:
                self._write(new)
                # The old one is deleted last: a kill in between leaves one of the two whole.
                if target.exists():
                    os.rename(target, old)
                os.rename(new, target)
            finally:
                _tidy(target)

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        for name, datasets in self.items():
            if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
                raise InputError(
                    f"A dataset cannot be named {name!r}. Allowed: letters, digits, '_', '-', '.'."
                )
            # datasets writes no file for no rows, and then cannot read the folder back.
            with no_progress_bars():
                shards = {split: None if len(dataset) else 1 for split, dataset in datasets.items()}
                datasets.save_to_disk(str(folder / name), num_shards=shards)
        (folder / MARK).write_text(json.dumps({"configs": list(self)}), encoding="utf-8")
        if self.card:
            (folder / CARD).write_text(self.card, encoding="utf-8")

    @classmethod
    def load_from_disk(cls, distiset_path: str | Path) -> "Distiset":
        """Read what `save_to_disk` wrote."""
        from datasets import load_from_disk

        folder = Path(distiset_path).expanduser()
        if not (folder / MARK).is_file():
            raise InputError(f"{folder} holds no Distiset. Give a folder that Distiset.save_to_disk wrote.")
        try:
            configs = json.loads((folder / MARK).read_text(encoding="utf-8"))["configs"]
            distiset = cls({name: load_from_disk(str(folder / name)) for name in configs})
            distiset.card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder} is damaged: {error}. Save the Distiset again.") from error
        return distiset

    def push_to_hub(
        self, repo_id: str, private: bool = False, token: str | None = None, revision: str | None = None
    ) -> None:
        """Upload each dataset as a configuration of `repo_id`, then the card; needs `hf auth login`.

        Args:
            revision: the branch to write to, made if it is not there; `main` without it.
        """
        from huggingface_hub import DatasetCard, hf_hub_download

        place = {"token": token, "revision": revision}
        for name, datasets in self.items():
            datasets.push_to_hub(
                repo_id, config_name=name, private=private, set_default=name == "default", **place
            )
        if self.card:
            # The hub's copy lists the configurations; ours tells the story.
            readme = hf_hub_download(repo_id, "README.md", repo_type="dataset", **place)
            listed, ours = DatasetCard.load(readme), DatasetCard(self.card)
            listed.text = ours.text
            vars(listed.data).update(ours.data.to_dict())
            listed.push_to_hub(repo_id, repo_type="dataset", **place)

    def to_trl(self, config: str = "default", tokenizer: Any = None, max_length: int = 1024):
        """The pairs as TRL takes them (https://huggingface.co/docs/trl/dataset_formats).

        Args:
            config: which dataset; `chosen` and `rejected` are conversations, or completions of its `prompt`.
            tokenizer: given, rows are left out whose prompt alone fills `max_length` tokens, as TRL would
                drop them without a word.

        Returns:
            `datasets.DatasetDict` with lists of messages `prompt`, `chosen`, `rejected`, the last two without
            the prompt. Rows that are no pair are left out, and their number for each reason is printed.
        """
        if config not in self:
            raise InputError(f"There is no dataset {config!r}; allowed: {', '.join(self)}.")
        return type(self[config])(
            {split: trl_pairs(rows, tokenizer, max_length) for split, rows in self[config].items()}
        )


def _prompts(rows: Any) -> list[str]:
    """What each row answers, as a key; its place where it has no prompt."""
    column = next((name for name in ("prompt", "instruction") if name in rows.column_names), None)
    return [key(str(value)) for value in rows[column]] if column else list(map(str, range(len(rows))))


def _by_prompt(datasets: Any, prompts: list[str], trained: set[str]):
    """The rows of `datasets["train"]` in two splits."""
    places = {"train": [], "test": []}
    for place, prompt in enumerate(prompts):
        places["train" if prompt in trained else "test"].append(place)
    rows = datasets["train"]
    return type(datasets)({name: rows.select(chosen) for name, chosen in places.items()})


def trl_pairs(dataset: Any, tokenizer: Any = None, max_length: int = 1024):
    """The pairs of a `datasets.Dataset` with columns `chosen` and `rejected`; see `Distiset.to_trl`."""
    from datasets import Features, Value

    missing = {"chosen", "rejected"} - set(dataset.column_names)
    if missing:
        raise InputError(
            f"The dataset has no column {' or '.join(sorted(missing))}; "
            f"it has {', '.join(dataset.column_names)}. End the pipeline with FormatTextGenerationDPO."
        )
    columns: dict[str, list] = {"prompt": [], "chosen": [], "rejected": []}
    faults: Counter = Counter()
    read = reader(dataset.column_names)
    for row in dataset:
        pair = read(row)
        fault = pair if isinstance(pair, str) else pair_fault(pair) or _too_long(pair, tokenizer, max_length)
        if fault:
            faults[fault] += 1
            continue
        parts = (pair.chosen[:-1], pair.chosen[-1:], pair.rejected[-1:])
        for name, messages in zip(columns, parts, strict=True):
            columns[name].append(messages)
    for reason, count in faults.most_common():
        print(f"to_trl: {count} rows left out: {reason}")
    messages = [{"role": Value("string"), "content": Value("string")}]
    return type(dataset).from_dict(columns, features=Features(dict.fromkeys(columns, messages)))


def _too_long(pair: Pair, tokenizer: Any, max_length: int) -> str | None:
    if tokenizer is None:
        return None
    tokens = tokenizer.apply_chat_template(
        pair.chosen[:-1], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return f"prompt fills max_length={max_length}" if len(tokens) >= max_length else None


@contextmanager
def no_progress_bars():
    """Saving takes no time worth a bar; whoever wanted bars has them again afterwards."""
    import datasets

    enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


def _beside(target: Path) -> tuple[Path, Path]:
    """Where a save to `target` writes the new Distiset, and where the old one waits until it is there."""
    return target.with_name(f".{target.name}-saving-new"), target.with_name(f".{target.name}-saving-old")


def unfinished(target: Path) -> list[Path]:
    """What a killed save to `target` left beside it."""
    return [folder for folder in _beside(target) if folder.exists()]


def _tidy(target: Path) -> None:
    """End a save to `target`: without a new Distiset in its place, the old one returns."""
    _, old = _beside(target)
    if old.exists() and not target.exists():
        os.rename(old, target)
    for folder in unfinished(target):
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder, ignore_errors=True)


def writing_out(what: str, target: Path):
    return writing(what, target, "Free some space there, mend the permissions, or choose another folder")
