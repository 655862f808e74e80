"""The experiments of chapter 6: what DPO makes of smollm2-135m, with right labels and with others.

    .venv/bin/python benchmarks/dpo.py pairs             write course_lib/data/dpo_pairs.jsonl
    .venv/bin/python benchmarks/dpo.py runs [NAME…]      train; seed 0 of each condition first
    .venv/bin/python benchmarks/dpo.py made DATASET      DPO and a reward model on a dataset of `make dataset`: output/dataset

Each run is added to course_lib/data/dpo_runs.jsonl as soon as it ends; a run that stands there is not made again, so a stop
costs one run. COURSE_LIB_DPO_RUNS names another file, for measuring anew. The rows of `made` go to dpo_made.jsonl beside it.
"""

import copy
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from course_lib import judging
from course_lib.distiset import Distiset
from course_lib.llms import TransformersLLM
from course_lib.llms.cache import result_key
from course_lib.paths import DATA, cache_folder
from course_lib.pipeline import Pipeline
from course_lib.rule import RULE, RuleRating, broken_rule, pair_for_trl, rule_pairs, rule_questions
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, KeepColumns, LoadDataFromDicts
from course_lib.steps.load import read_jsonl
from course_lib.steps.tasks import LikelihoodRating, TextGeneration
from course_lib.steps.tasks.checks import constraints

MODEL = "smollm2-135m"
RUNS = Path(os.environ.get("COURSE_LIB_DPO_RUNS", DATA / "dpo_runs.jsonl"))
PAIRS = DATA / "dpo_pairs.jsonl"
TOKENS = 32  # a sentence of twenty words has about 26; what has not ended by then breaks the rule
WRITERS = [(None, 0.7), (RULE, 0.7), (RULE, 1.0)]  # brief and temperature
SEEDS = (0, 1, 2)
TESTED, CONTRASTED = 24, 16
CHECKPOINTS = (4, 8)  # steps after which the run with right labels is asked, too
Row = dict[str, Any]


# --- pairs: pool, check, pair -----------------------------------------------------------------------------------


def questions(*parts: str) -> list[str]:
    """Short questions among the labelled items of `parts` that ask for nothing about the form of the answer."""
    texts = {item["instruction"] for part in parts for item in judging.labelled_items(part)}
    return sorted(
        text
        for text in texts
        if text.endswith("?") and len(text) <= 90 and "\n" not in text and not list(constraints(text))
    )


def pool_pipeline(asked: Iterable[str]) -> Pipeline:
    """Completions with and without the brief, checked by code, the best and the worst as a pair without the brief."""
    with Pipeline(name="rule-pairs") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in asked])
        writers = [
            TextGeneration(llm=writer(temperature), system_prompt=brief) for brief, temperature in WRITERS
        ]
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        # Without `finish_reasons`: to be cut off is one of the faults that the rule knows.
        keep = KeepColumns(columns=["instruction", "generations", "generation_models"])
        load >> writers >> group >> keep >> RuleRating() >> FormatTextGenerationDPO()
    return pipeline


def writer(temperature: float) -> TransformersLLM:
    return TransformersLLM(
        MODEL, generation_kwargs={"max_new_tokens": TOKENS, "temperature": temperature, "seed": 0}
    )


def write_pairs() -> None:
    """The pairs to train on, those of equal faults but unequal length, and what is held out; see `data/dpo.md`."""
    asked = random.Random(0).sample(questions("fit"), 420)
    held_out = questions("report", "fresh", "blind")
    train, test = (pool_pipeline(texts).run() for texts in (asked, held_out))
    rows = [row | {"part": "train"} for row in flat(train)] + [row | {"part": "test"} for row in flat(test)]
    rows += [row | {"part": "length"} for row in length_pairs(train)]
    paired = {row["prompt"] for row in rows}
    unpaired = [text for text in held_out if text not in paired]
    rows += [{"part": "ask", "prompt": text} for text in random.Random(1).sample(held_out, 48)]
    write_lines(PAIRS, rows)
    print(len(rows), "rows;", len(unpaired), "held-out questions gave no pair")


def flat(distiset) -> list[Row]:
    """Pairs as three texts."""
    return [
        {
            "prompt": row["prompt"],
            "chosen": row["chosen"][-1]["content"],
            "rejected": row["rejected"][-1]["content"],
        }
        for row in distiset["default"]["train"]
    ]


def length_pairs(distiset) -> list[Row]:
    """Two texts of one question that both break the rule, the shorter one chosen: a label that knows length alone."""
    pairs = []
    for row in [row for part in distiset for row in distiset[part]["train"]]:
        texts = sorted({text for text in row["generations"] if text and broken_rule(text)}, key=len)
        if len(texts) > 1 and len(texts[0]) < 0.8 * len(texts[-1]):
            pairs.append({"prompt": row["instruction"], "chosen": texts[0], "rejected": texts[-1]})
    return pairs


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# --- training ---------------------------------------------------------------------------------------------------


def trained(pairs: list[Row], folder: str, seed: int = 0, **settings: Any) -> Row:
    """Train with LoRA and save the merged model in `folder`; tests on held-out pairs, and what TRL logged at each step."""
    trainer = dpo_trainer([pair_for_trl(pair) for pair in pairs], folder, seed, **settings)
    asked: dict[int, Row] = {}
    if seed == 0 and pairs == shuffled_pairs(0)[: len(pairs)] and not settings:
        trainer.add_callback(asking(asked))
    trainer.train()
    tests = {"held_out": rule_pairs("test")[:TESTED], "contrast": contrast_pairs()}
    found = {name: tested(trainer, [pair_for_trl(pair) for pair in held]) for name, held in tests.items()}
    log = [line for line in trainer.state.log_history if "loss" in line]
    save_merged(trainer, folder)
    return {
        **found,
        "asked_at": asked,
        "log": [{name: line[key] for name, key in LOGGED.items()} for line in log],
    }


def asking(asked: dict[int, Row]):
    """A callback that fills `asked` with what the model writes after each of `CHECKPOINTS`."""
    from transformers import TrainerCallback

    class Asking(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step in CHECKPOINTS:
                with tempfile.TemporaryDirectory() as folder:
                    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
                    TransformersLLM(MODEL).tokenizer.save_pretrained(folder)
                    asked[state.global_step] = written(TransformersLLM(folder, use_cache=False))

    return Asking()


def dpo_trainer(rows: list[Row], folder: str, seed: int, **settings: Any):
    """A trainer of the model with LoRA on rows as TRL takes them; `settings` go over `RECIPE`."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, set_seed
    from trl import DPOConfig

    start = TransformersLLM(MODEL)
    set_seed(seed)  # before the trainer, where LoRA draws its first values
    return remembering_trainer()(
        model=AutoModelForCausalLM.from_pretrained(start.weights.folder, dtype=torch.float32),
        args=DPOConfig(output_dir=folder, seed=seed, **(RECIPE | settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=start.tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )


def save_merged(trainer, folder: str) -> None:
    trainer.model.merge_and_unload().save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)


def remembering_trainer():
    """A DPOTrainer that computes the reference's log-probability of a text once for all runs: it never changes."""
    from datasets import Dataset, concatenate_datasets
    from trl import DPOTrainer

    class Remembering(DPOTrainer):
        def _precompute_ref_logps(self, dataset, name, batch_size):
            file = cache_folder() / "benchmarks" / f"dpo_reference_{self.args.max_length}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            known, sides = read_numbers(file), {}
            for side in ("chosen", "rejected"):
                sides[side] = [result_key(row["prompt_ids"], row[f"{side}_ids"]) for row in dataset]
            new = [n for n in range(len(dataset)) if any(keys[n] not in known for keys in sides.values())]
            if new:
                computed = super()._precompute_ref_logps(dataset.select(new), name, batch_size)
                for side, keys in sides.items():
                    known |= zip([keys[n] for n in new], computed[f"ref_{side}_logps"], strict=True)
                file.write_text(json.dumps(read_numbers(file) | known), encoding="utf-8")
            columns = {f"ref_{side}_logps": [known[key] for key in keys] for side, keys in sides.items()}
            return concatenate_datasets([dataset, Dataset.from_dict(columns)], axis=1)

    return Remembering


def read_numbers(file: Path) -> dict[str, float]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def tested(trainer, rows: list[Row]) -> Row:
    """Share of pairs never trained on whose chosen side has gained more than the rejected one, and by how much."""
    from datasets import Dataset

    line = trainer.evaluate(Dataset.from_list(rows))
    return {
        "accuracy": line["eval_rewards/accuracies"],
        "margin": line["eval_rewards/margins"],
        "pairs": len(rows),
    }


def contrast_pairs() -> list[Row]:
    """Held-out texts that keep to the rule beside themselves without the last word: a little shorter, and no whole sentence."""
    return [pair | {"rejected": pair["chosen"].rsplit(" ", 1)[0]} for pair in rule_pairs("test")[:CONTRASTED]]


LOGGED = {
    "step": "step",
    "loss": "loss",
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "chosen": "logps/chosen",
    "rejected": "logps/rejected",
}
RECIPE: Row = {
    "beta": 0.1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 4,
    "num_train_epochs": 1,
    "max_steps": 12,
    "max_length": 128,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "precompute_ref_log_probs": True,
}
# The upper half of the layers: the way back through the lower half need not be computed.
ADAPTER: Row = {
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "layers_to_transform": list(range(15, 30)),
    "task_type": "CAUSAL_LM",
}

# --- conditions -------------------------------------------------------------------------------------------------


def swapped(pair: Row) -> Row:
    return pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]}


def by_coin(pairs: list[Row], seed: int) -> list[Row]:
    coin = random.Random(f"coin {seed}")
    return [swapped(pair) if coin.random() < 0.5 else pair for pair in pairs]


def length_labels(pairs: list[Row], seed: int) -> list[Row]:
    """As many pairs of the part "length": both texts break the rule, and the shorter one is chosen."""
    return random.Random(f"length {seed}").sample(rule_pairs("length"), len(pairs))


Labels = Callable[[list[Row], int], list[Row]]
# How each condition labels the pairs, and what else it changes.
CONDITIONS: dict[str, tuple[Labels, Row]] = {
    "right": (lambda pairs, seed: pairs, {}),
    "reversed": (lambda pairs, seed: list(map(swapped, pairs)), {}),
    "length": (length_labels, {}),
    "beta 0.01": (lambda pairs, seed: pairs, {"beta": 0.01}),
    "random": (by_coin, {}),
    "beta 1.0": (lambda pairs, seed: pairs, {"beta": 1.0}),
    "24 pairs": (lambda pairs, seed: pairs, {"max_steps": 6}),
    "80 pairs": (lambda pairs, seed: pairs, {"max_steps": 20}),
    "identical": (
        lambda pairs, seed: [pair | {"rejected": pair["chosen"]} for pair in pairs],
        {"max_steps": 3},
    ),
}


def make_runs(names: list[str]) -> None:
    """Train and measure what is not there yet; seed 0 of each condition first."""
    if unknown := set(names) - set(CONDITIONS):
        raise SystemExit(f"Unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(CONDITIONS)}.")
    wanted = [("start", 0), *((name, seed) for seed in SEEDS for name in (names or CONDITIONS))]
    for name, seed in wanted:
        there = read_jsonl(RUNS) if RUNS.exists() else []
        if (name, seed) in [(run["condition"], run["seed"]) for run in there]:
            continue
        run = one_run(name, seed)
        with RUNS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run, ensure_ascii=False) + "\n")
        print(name, seed, {key: value for key, value in run.items() if isinstance(value, float)}, flush=True)


def shuffled_pairs(seed: int) -> list[Row]:
    pairs = rule_pairs("train")
    random.Random(f"order {seed}").shuffle(pairs)
    return pairs


def one_run(name: str, seed: int) -> Row:
    if name == "start":
        return {"condition": name, "seed": seed, **measured(TransformersLLM(MODEL))}
    labels, settings = CONDITIONS[name]
    steps = settings.get("max_steps", RECIPE["max_steps"])
    pairs, started = labels(shuffled_pairs(seed)[: 4 * steps], seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        training = trained(pairs, folder, seed, **settings)
        seconds = time.perf_counter() - started
        found = measured(TransformersLLM(folder, use_cache=False))
    return {"condition": name, "seed": seed, "seconds": round(seconds), **found, **training}


# --- what became of the model -----------------------------------------------------------------------------------


def measured(model: TransformersLLM) -> Row:
    """What a model writes, and how far it has moved from the start."""
    found, start = written(model), TransformersLLM(MODEL)
    some = [place for place, text in enumerate(found["texts"]) if text.strip()][:24]
    read = [[chats()[place] for place in some], [found["texts"][place] for place in some]]
    ratio = model.log_likelihood(*read) - start.log_likelihood(*read)
    return {**found, "log_ratio": float(ratio.mean())}


def written(model: TransformersLLM) -> Row:
    """The answers of a model to the questions that are kept for this, and how many keep to the rule."""
    results = model.generate(chats(), max_new_tokens=TOKENS, temperature=0.7, seed=0)
    texts = [result["generations"][0] for result in results]
    return {
        "kept": sum(not broken_rule(text) for text in texts),
        "asked": len(texts),
        "characters": sum(map(len, texts)) / len(texts),
        "distinct": len(set(texts)) / len(texts),
        "texts": texts,
    }


def chats() -> list[list[Row]]:
    return [[{"role": "user", "content": text}] for text in rule_questions()]


# --- a dataset that a judge made ----------------------------------------------------------------------------------

MADE = RUNS.with_name("dpo_made.jsonl")
LONGER: Row = {"max_length": 256, "max_steps": -1, "num_train_epochs": 3, "learning_rate": 2e-4}


def measure_made(folder: str) -> None:
    """DPO and a reward model on three quarters of the prompts of a saved dataset, tested on the others; three splits."""
    distiset = Distiset.load_from_disk(folder)
    for seed in SEEDS:
        there = [run["seed"] for run in read_jsonl(MADE)] if MADE.exists() else []
        if seed not in there:
            pairs = distiset.train_test_split(0.75, seed=seed).to_trl()
            train, test = (pairs[part].to_list() for part in ("train", "test"))
            run = {"seed": seed, "pairs": len(train), **both_trained(train, test, seed)}
            with MADE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(run, flush=True)


def both_trained(train: list[Row], test: list[Row], seed: int) -> Row:
    """Accuracy on `test` of DPO's implicit reward and of a reward model, and what DPO's model lost."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = dpo_trainer(train, folder, seed, **LONGER)
        trainer.train()
        found = {"dpo": tested(trainer, test)}
        save_merged(trainer, folder)
        found["labelled"] = labelled_accuracy(TransformersLLM(folder, use_cache=False))["accuracy"]
    with tempfile.TemporaryDirectory() as folder:
        line = reward_trainer(train, test, folder, seed)
    longer = [len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"]) for row in test]
    return {**found, "reward_model": line["eval_accuracy"], "by_length": sum(longer) / len(longer)}


def reward_trainer(train: list[Row], test: list[Row], folder: str, seed: int) -> Row:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    start, settings = TransformersLLM(MODEL), RECIPE | LONGER
    set_seed(seed)
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            start.weights.folder, num_labels=1, dtype=torch.float32
        ),
        args=RewardConfig(
            output_dir=folder,
            seed=seed,
            **{k: v for k, v in settings.items() if k not in ("beta", "precompute_ref_log_probs")},
        ),
        train_dataset=Dataset.from_list(train),
        processing_class=start.tokenizer,
        peft_config=LoraConfig(**ADAPTER | {"task_type": "SEQ_CLS"}),
    )
    trainer.train()
    return trainer.evaluate(Dataset.from_list(test))


def labelled_accuracy(model: TransformersLLM) -> Row:
    """How often the good answer of a labelled item is the likelier one per token, with its interval."""
    judge, items = LikelihoodRating(panel=[model]), judging.labelled_items("report")[::4]
    [line] = judging.pair_accuracy(judging.rate_items(judge, items, ("good", "worse")))
    return line


def main(arguments: list[str]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    command, names = (arguments[0] if arguments else ""), arguments[1:]
    if command == "pairs" and not names:
        write_pairs()
    elif command == "runs":
        make_runs(names)
    elif command == "made" and len(names) == 1:
        measure_made(names[0])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
