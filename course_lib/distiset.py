"""The result of a pipeline: datasets by name, to save, read back, push to the hub, or hand to a trainer."""

import json
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.errors import InputError, writing

CARD = "README.md"
MARK = "distiset.json"


@contextmanager
def no_progress_bars():
    """Saving takes no time worth a bar; whoever wanted bars has them again afterwards."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            enable_progress_bars()


class Distiset(dict):
    """A dict of `datasets.DatasetDict`, one for each last step of a pipeline.

    `distiset["default"]["train"]` holds the rows; `distiset["dropped"]["train"]`, where there is one, the rows that
    left the pipeline, each with its `drop_reason`. `report` tells what the run did; `card` is the text of README.md.
    """

    report: Any = None
    card: str = ""

    @classmethod
    def of(cls, datasets: dict[str, Any], report: Any = None, keep: Any = None) -> "Distiset":
        """One split `train` for each dataset. `keep` is held as long as the Distiset lives (a folder of its rows)."""
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

    def save_to_disk(self, distiset_path: str | Path) -> None:
        """Write all datasets into a folder, whole or not at all; a Distiset that is there already is replaced.

        What a killed save left is removed by the next one into the same folder; only one at a time may write there.

        Raises:
            InputError: the folder holds something else.
            OutputError: the disk is full, or the folder not ours to write; what was there is unchanged.
        """
        target = Path(distiset_path).expanduser()
        check_target(target)
        with writing_out("The dataset", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            tidy(target)
            new, old = beside(target)
            try:
                self._write(new)
                # The old one is deleted last: a kill in between leaves one of the two whole.
                if target.exists():
                    os.rename(target, old)
                os.rename(new, target)
            finally:
                tidy(target)

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        for name, datasets in self.items():
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
        configs = json.loads((folder / MARK).read_text(encoding="utf-8"))["configs"]
        distiset = cls({name: load_from_disk(str(folder / name)) for name in configs})
        card = folder / CARD
        distiset.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        return distiset

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> None:
        """Upload each dataset as a configuration of `repo_id`, then the card. Needs a token (`hf auth login`)."""
        from huggingface_hub import DatasetCard

        for name, datasets in self.items():
            datasets.push_to_hub(
                repo_id, config_name=name, private=private, token=token, set_default=name == "default"
            )
        if self.card:
            # The hub's copy lists the configurations; ours tells the story.
            listed = DatasetCard.load(repo_id, token=token)
            ours = DatasetCard(self.card)
            listed.text = ours.text
            for key, value in ours.data.to_dict().items():
                setattr(listed.data, key, value)
            listed.push_to_hub(repo_id, token=token)

    def to_trl(self, config: str = "default", tokenizer: Any = None, max_length: int = 1024):
        """The pairs as TRL's DPOTrainer and RewardTrainer take them (https://huggingface.co/docs/trl/dataset_formats).

        Args:
            config: which dataset.
            tokenizer: given, rows are left out whose prompt alone fills `max_length` tokens, as TRL would drop them
                without a word.

        Returns:
            `datasets.DatasetDict` with `prompt`, `chosen`, `rejected`, each a list of messages; `chosen` and
            `rejected` hold the completion only. Rows without a pair, ties and identical pairs are left out; the
            number for each reason is printed.
        """
        if config not in self:
            raise InputError(f"There is no dataset {config!r}; allowed: {', '.join(self)}.")
        return type(self[config])(
            {s: _trl(dataset, tokenizer, max_length) for s, dataset in self[config].items()}
        )


def _trl(dataset, tokenizer, max_length: int):
    from datasets import Features, Value

    missing = {"chosen", "rejected"} - set(dataset.column_names)
    if missing:
        raise InputError(
            f"The dataset has no column {' or '.join(sorted(missing))}; "
            f"it has {', '.join(dataset.column_names)}. End the pipeline with FormatTextGenerationDPO."
        )
    faults = [_fault(row, tokenizer, max_length) for row in dataset]
    for reason, count in Counter(fault for fault in faults if fault).most_common():
        print(f"to_trl: {count} rows left out: {reason}")
    pairs = dataset.select([number for number, fault in enumerate(faults) if not fault])
    columns = {
        "prompt": [row["chosen"][:-1] for row in pairs],
        "chosen": [row["chosen"][-1:] for row in pairs],
        "rejected": [row["rejected"][-1:] for row in pairs],
    }
    messages = [{"role": Value("string"), "content": Value("string")}]
    return type(dataset).from_dict(columns, features=Features(dict.fromkeys(columns, messages)))


def _fault(row: dict[str, Any], tokenizer, max_length: int) -> str | None:
    if not row["chosen"] or not row["rejected"]:
        return "no pair"
    if row["chosen"][-1]["content"] == row["rejected"][-1]["content"]:
        return "identical completions"
    if row.get("chosen_rating") is not None and row["chosen_rating"] == row.get("rejected_rating"):
        return "tie"
    if tokenizer is not None:
        ids = tokenizer.apply_chat_template(
            row["chosen"][:-1], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if len(ids) >= max_length:
            return f"prompt fills max_length={max_length}"
    return None


def check_target(target: Path) -> None:
    """Raise `InputError` if `target` is there and is not a saved Distiset."""
    if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{target} holds something else than a Distiset; nothing was written. Choose another folder."
        )


def beside(target: Path) -> tuple[Path, Path]:
    """Where a save to `target` writes the new Distiset, and where the old one waits until that is in its place."""
    return target.with_name(f".{target.name}-saving-new"), target.with_name(f".{target.name}-saving-old")


def unfinished(target: Path) -> list[Path]:
    """What a killed save to `target` left beside it."""
    return [folder for folder in beside(target) if folder.exists()]


def tidy(target: Path) -> None:
    """End a save to `target`: without a new Distiset in its place, the old one returns."""
    _, old = beside(target)
    if old.exists() and not target.exists():
        os.rename(old, target)
    for folder in unfinished(target):
        shutil.rmtree(folder, ignore_errors=True)


def writing_out(what: str, target: Path):
    return writing(what, target, "Free some space there, mend the permissions, or choose another folder")
