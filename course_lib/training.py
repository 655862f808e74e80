"""Training on preference data: pairs in, a LoRA adapter out. TRL trains; here data are checked and runs resumed."""

import json
import logging
import math
import os
import shutil
import warnings
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

from course_lib.audit import audit, is_test, remaining
from course_lib.card import PRIVATE, cell
from course_lib.distiset import Distiset, writing_out
from course_lib.errors import InputError, require_package
from course_lib.llms import TransformersLLM
from course_lib.llms.cache import result_key
from course_lib.llms.devices import best_device, best_dtype
from course_lib.llms.loaded import load_model
from course_lib.llms.prompts import MARK
from course_lib.pairs import SIDES, Pair, pair_fault, reader
from course_lib.progress import Bar, progress
from course_lib.settings import check_device, option
from course_lib.steps.load import load_splits
from course_lib.steps.tasks.templating import environment

NOTE, METRICS, CHECKPOINTS = "training.txt", "metrics.json", "checkpoints"
RANGES = {"beta": (0.0001, 100), "epochs": (1, 1000), "learning_rate": (1e-9, 0.1), "batch_size": (1, 1024)}
RANGES |= {"max_length": (8, 10**6), "test_share": (0, 0.9), "limit": (1, 10**9), "seed": (0, 2**32 - 1)}
CURVES = {"loss": ["loss"], "reward accuracy": ["rewards/accuracies"], "reward margin": ["rewards/margins"]}
CURVES |= {"log-probability of a completion": ["logps/chosen", "logps/rejected"]}


@dataclass
class Training:
    """What `python -m course_lib train` can be told: the data, whatever `load_splits` takes, and its options."""

    source: Any
    model: str = option("packaged name, folder or hub id", "smollm2-135m", metavar="MODEL")
    method: str = option("how the model learns: dpo alone", "dpo", metavar="METHOD")
    beta: float = option("how strongly the model is held to what it was", 0.1, type=float, metavar="X")
    epochs: int = option("how often each pair is read", 3, type=int, metavar="N")
    learning_rate: float = option("size of the first step", 2e-4, type=float, metavar="X")
    batch_size: int = option("pairs in a step", 4, type=int, metavar="N")
    max_length: int = option("most tokens of a prompt with a completion", 1024, type=int, metavar="N")
    test_share: float = option("prompts held out, or a test split", 0.2, type=float, metavar="SHARE")
    limit: int | None = option("only the first N rows of each split", type=int, metavar="N")
    seed: int = option("seed of split, adapter and order", 0, type=int, metavar="N")
    accept_faults: bool | None = option("train on rows with faults, too", action="store_true")
    out: Path = option("where to write", Path("trained"), type=Path, metavar="FOLDER")
    device: str | None = option("cuda, mps or cpu (default: the first that is there)")

    def __post_init__(self):
        self.out = Path(self.out)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and low <= value <= high):
                raise InputError(f"--{name.replace('_', '-')} {value}; allowed: {low} to {high:,}.")
        if self.method != "dpo":
            raise InputError(f"--method {self.method!r}; allowed: dpo. For others use TRL itself.")


def train(settings: Training) -> dict[str, Any]:
    """Train an adapter, or go on where a killed run with these settings stopped; a finished one is only read.

    Returns:
        What metrics.json holds: `settings`; `pairs` and `faults` by number; `log`, TRL's figures of each step and,
        as `eval_…`, of the pairs held out, before and after. Log-probabilities are of whole completions, in nats.
    """
    for package in ("trl", "peft"):
        require_package(package, "Training", "course-lib[train]")
    if settings.device is not None:
        check_device(settings.device)
    llm, out = TransformersLLM(settings.model), settings.out
    data, faults = read_pairs(settings, llm)
    llm.check()
    told = {name: value for name, value in vars(settings).items() if name not in ("source", *PRIVATE)}
    claim(out, told | {"pairs": result_key(*map(list, data.values())), "weights": llm.fingerprint})
    if (out / METRICS).is_file():
        return json.loads((out / METRICS).read_text(encoding="utf-8"))
    # The state is what a checkpoint gets last; one without it was cut short by a kill.
    states = (out / CHECKPOINTS).glob("*/trainer_state.json")
    last = max(
        (file.parent for file in states), key=lambda folder: int(folder.name.split("-")[1]), default=None
    )
    # Of checkpoints it doubts the times, which nobody here goes by.
    logging.getLogger("transformers.trainer_utils").setLevel(logging.ERROR)
    with progress("training") as bar, warnings.catch_warnings(action="ignore"):
        trainer = dpo_trainer(settings, data, llm, bar, eval_on_start="test" in data and not last)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if "test" in data:
            trainer.evaluate()
    log = trainer.state.log_history
    if not all(math.isfinite(entry.get("loss", 0)) for entry in log):
        raise InputError("The loss is no number any more. Give a lower --learning-rate and a new --out.")
    metrics = {"settings": {"data": str(settings.source)[:200], **told}, "faults": faults, "log": log}
    metrics["pairs"] = {split: len(rows) for split, rows in data.items()}
    write(out, trainer.model, metrics, llm)
    return metrics


def read_pairs(settings: Training, llm: TransformersLLM) -> tuple[Any, dict[str, int]]:
    """The `token_ids` of the pairs in the splits `train` and, unless none is held out, `test`; rows by fault.

    Raises:
        InputError: rows have faults, and `accept_faults` is not set; too few pairs are left.
    """
    from datasets import Dataset, DatasetDict

    splits = load_splits(settings.source)
    splits = {name: tuple(islice(rows, settings.limit)) for name, rows in splits.items()}
    length = min(settings.max_length, llm.context)
    report = audit(splits, llm.tokenizer, length)
    faults = {fault: len(places) for fault, places in report.faults.items()}
    if faults and not settings.accept_faults:
        raise InputError(
            f"Faults of {len(report.reasons)} rows: {', '.join(f'{name} {n}' for name, n in faults.items())}. Train on the "
            "others, which `python -m course_lib audit … --write FOLDER` writes, or on all, with --accept-faults."
        )
    parts: dict[str, list[Any]] = {"train": [], "test": []}
    for place, row, fault in remaining(splits, report):
        pair = None if fault in ("no pair", "unreadable", "missing rating") else reader(row)(row)
        if pair and not pair_fault(pair) and len((ids := token_ids(pair, llm))["prompt_ids"]) < length:
            parts["test" if is_test(place.split) else "train"].append(ids)
    data = DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items() if rows})
    if settings.test_share and list(data) == ["train"]:
        data = Distiset(pairs=data).train_test_split(1 - settings.test_share, seed=settings.seed)["pairs"]
    if "train" not in data or not all(data.values()):
        sizes = ", ".join(f"{name} {len(rows)}" for name, rows in data.items()) or "none"
        raise InputError(f"Too few pairs: {sizes}. Give more, or another --test-share (0: none held out).")
    return data, faults


def token_ids(pair: Pair, llm: TransformersLLM) -> dict[str, Any]:
    """A row as `DPOTrainer` prepares it, with the tokens that the model reads and writes: no text opens a turn."""
    chat = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    text = llm.tokenizer.apply_chat_template(chat, tokenize=False).rpartition(MARK)[2]
    end = llm.tokenizer(text, add_special_tokens=False).input_ids or [llm.tokenizer.eos_token_id]
    sides = [llm.prompts.encode_completion(text) + end for text in pair.texts]
    row = {"prompt": pair.prompt, "prompt_ids": llm.prompts.encode(pair.chosen[:-1])}
    return row | {f"{side}_ids": ids for side, ids in zip(SIDES, sides, strict=True)}


def dpo_trainer(settings: Training, data: Any, llm: TransformersLLM, bar: Bar, **options: Any) -> Any:
    """TRL's `DPOTrainer` of a new adapter on a copy of the weights; `options` are further ones of `DPOConfig`."""
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):  # whose rows are token ids already
        def _prepare_dataset(self, dataset, *_):
            return dataset

        def log(self, logs, *rest):
            super().log(logs, *rest)
            step, last = self.state.global_step, self.state.max_steps
            bar.show(f"step {step} of {last}", step / last)

    device = settings.device or best_device()
    half = best_dtype(device, llm.weights.folder) == "bfloat16"
    options |= {"use_cpu": device == "cpu", "dataloader_pin_memory": device != "cpu", "bf16": half}
    options |= {name: getattr(settings, name) for name in ("beta", "learning_rate", "seed")}
    options |= {f"per_device_{use}_batch_size": settings.batch_size for use in ("train", "eval")}
    options |= {"num_train_epochs": settings.epochs, "max_length": min(settings.max_length, llm.context)}
    options |= {"gradient_checkpointing": device != "cpu", "report_to": "none", "disable_tqdm": True}
    options |= {"logging_steps": 0.005, "save_steps": 0.05, "save_total_limit": 2}
    model = load_model(llm.weights.folder, "bfloat16" if half else "float32", device, {})
    adapter = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    config = DPOConfig(str(settings.out / CHECKPOINTS), logging_nan_inf_filter=False, **options)
    rows = {"train_dataset": data["train"], "eval_dataset": data.get("test")}
    trainer = Trainer(model, args=config, processing_class=llm.tokenizer, peft_config=adapter, **rows)
    trainer.remove_callback(PrinterCallback)
    return trainer


def claim(out: Path, told: dict[str, Any]) -> None:
    """Note in the folder `out` what it is a training of; `InputError` if it holds something else."""
    lines = [f"{name} = {value!r}" for name, value in told.items()]
    with writing_out("The training", out):
        out.mkdir(parents=True, exist_ok=True)
        if not any(out.iterdir()):
            (out / NOTE).write_text("\n".join(lines), encoding="utf-8")
        before = (out / NOTE).read_text(encoding="utf-8").split("\n") if (out / NOTE).is_file() else []
    if other := [line for line in lines if line not in before]:
        raise InputError(f"--out {out} holds no training with {', '.join(other)}. Give a new folder.")


def curves(log: list[dict[str, float]]) -> Any:
    """A figure of `metrics["log"]`: by step the loss, reward accuracy and margin, and both sides' log-probabilities."""
    from course_lib import plots

    fig, axes = plots.figure(9, 6, ncols=2, nrows=2)
    for ax, (heading, names) in zip(axes.flat, CURVES.items(), strict=True):
        for name in [prefix + name for prefix in ("", "eval_") for name in names]:
            entries = [entry for entry in log if name in entry]
            steps, values = [entry["step"] for entry in entries], [entry[name] for entry in entries]
            ax.plot(steps, values, label=name.replace("eval_", "held out: "))
        ax.set(title=heading, xlabel="step")
        ax.legend(fontsize=8)
    return fig


def write(out: Path, model: Any, metrics: dict[str, Any], llm: TransformersLLM) -> None:
    """Adapter, tokenizer, card, curves and, as a sign that all is there, the metrics; the checkpoints go."""
    from course_lib import plots

    card = environment().get_template("training_card.jinja2")
    with writing_out("The adapter", out):
        model.peft_config["default"].base_model_name_or_path = llm.model
        model.save_pretrained(out, save_embedding_layers=False)
        llm.tokenizer.save_pretrained(out)
        text = card.render(metrics=metrics, llm=llm, cell=cell, curves=CURVES)
        (out / "README.md").write_text(text, encoding="utf-8")
        plots.save(curves(metrics["log"]), out / "curves.png")
        (out / ".metrics").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        os.replace(out / ".metrics", out / METRICS)
        shutil.rmtree(out / CHECKPOINTS)
