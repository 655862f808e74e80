"""The main job: instructions in, a preference dataset out.

load → [TextGeneration × models] → GroupColumns → + EvolQuality → rate → FormatTextGenerationDPO
"""

from argparse import BooleanOptionalAction
from copy import copy
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Any

from course_lib.card import dataset_card
from course_lib.distiset import MARK, Distiset, unfinished, writing_out
from course_lib.errors import InputError
from course_lib.judging import default_judge, likelihood_panel
from course_lib.llms import LLM, plugins
from course_lib.llms.weights import PACKAGED
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GeneratorStep, GroupColumns, LoadDataFromDicts, Step
from course_lib.steps.load import load_from, shipped_instructions
from course_lib.steps.tasks import EvolQuality, Task, TextGeneration, UltraFeedback

JUDGES = {"default": default_judge, "likelihood": likelihood_panel}


def option(help: str, default: Any = None, **arguments: Any) -> Any:
    """A field of `Settings`, with what argparse's `add_argument` takes for it."""
    told = {"help": help if default is None else f"{help} (default: %(default)s)", **arguments}
    return field(default_factory=lambda: copy(default), metadata={**told, "default": default})


@dataclass
class Settings:
    """What `python -m course_lib` can be told; each field is the option of that name."""

    instructions: str | None = option(
        ".jsonl, .csv or .parquet file, saved dataset, or hub id (default: the course's)", metavar="SOURCE"
    )
    column: str = option("the column of the instructions", "instruction", metavar="NAME")
    models: list[str] = option("packaged names, folders or hub ids", [*PACKAGED], nargs="+", metavar="MODEL")
    judge: str = option("default, likelihood, logits:MODEL, text:MODEL, or an installed one", "default")
    evolve: bool = option(
        "add the first model's completion, rewritten to be better", True, action=BooleanOptionalAction
    )
    limit: int | None = option("only the first N instructions", type=int, metavar="N")
    seed: int = option("seed of all sampling", 0, type=int)
    out: Path = option("where to write", Path("output"), type=Path, metavar="FOLDER")
    device: str | None = option("cuda, mps or cpu (default: the first that is there)")
    max_new_tokens: int = option("longest completion, in tokens", 96, type=int, metavar="N")
    push_to_hub: str | None = option("also upload the dataset to this repository, org/name", metavar="REPO")

    def llm(self, model: str) -> LLM:
        """The language model of that name, with the sampling arguments of this job."""
        arguments = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        return plugins.llm(model, self.device, generation_kwargs=arguments)


def make_dataset(settings: Settings, progress: bool | None = None) -> Distiset:
    """Run the whole job and write nothing; the card is in `distiset.card`.

    Raises:
        InputError, WeightsError: before any model is loaded.
    """
    pipeline = build_pipeline(settings)
    distiset = pipeline.run(progress=progress)
    llms = [llm for step in pipeline.graph.steps.values() for llm in step.llms]
    distiset.card = dataset_card(settings, distiset, llms)
    return distiset


def build_pipeline(settings: Settings) -> Pipeline:
    """The pipeline that `settings` describe, its instructions already checked."""
    if len(settings.models) + settings.evolve < 2:
        raise InputError(
            "One model without --evolve gives one completion per instruction. Give two models, or --evolve."
        )
    with Pipeline(name="preference-dataset") as pipeline:
        load = load_step(settings)
        branches: list[Task] = [TextGeneration(llm=settings.llm(model)) for model in settings.models]
        check_instructions(load, [branch.llm for branch in branches])
        load >> branches
        if settings.evolve:
            evolve = EvolQuality(
                llm=settings.llm(settings.models[0]),
                seed=settings.seed,
                input_mappings={"response": "generation"},
                output_mappings={"evolved_response": "generation"},
            )
            branches[0] >> evolve
            branches.append(evolve)
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        branches >> group >> judge_step(settings) >> FormatTextGenerationDPO()
    return pipeline


def load_step(settings: Settings) -> GeneratorStep:
    """The step that reads the instructions."""
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"--limit {settings.limit}; allowed: 1 or more.")
    if settings.instructions is None:
        return LoadDataFromDicts(data=shipped_instructions()[: settings.limit])
    renamed = {settings.column: "instruction"} if settings.column != "instruction" else {}
    return load_from(settings.instructions, num_examples=settings.limit, output_mappings=renamed)


def judge_step(settings: Settings) -> Step:
    """The step that rates: `default`, `likelihood`, `logits`, `text`, or the name of an installed judge.

    A package brings a judge by an entry point of the group `course_lib.judges`: a function without arguments that
    gives a step from rows with `instruction` and `generations` to `ratings`.
    """
    kind, _, model = settings.judge.partition(":")
    if kind in ("logits", "text"):
        llm = settings.llm(model or settings.models[0])
        return UltraFeedback(llm=llm, mode=kind, rationales=kind == "text")
    if kind in JUDGES:
        return JUDGES[kind](device=settings.device)
    judges = {entry.name: entry for entry in entry_points(group="course_lib.judges")}
    if kind in judges:
        return judges[kind].load()()
    allowed = ", ".join([*JUDGES, "logits:MODEL", "text:MODEL", *sorted(judges)])
    raise InputError(f"--judge {settings.judge!r} is unknown; allowed: {allowed} (MODEL may be left out).")


def check_instructions(load: GeneratorStep, llms: list[LLM]) -> None:
    """Raise `InputError` at the first row without an instruction that is text and fits every model."""
    columns = load.columns_after(set())
    if "instruction" not in columns:
        raise InputError(
            f"The instructions have no column 'instruction'; there is: {', '.join(sorted(columns)) or 'none'}. "
            "Name the right one with --column, or in Python with output_mappings={'prompt': 'instruction'} on the "
            "load step (or input_mappings={'instruction': 'prompt'} on a task)."
        )
    for number, row in enumerate(chain.from_iterable(load.generate_rows()), 1):
        text = row["instruction"]
        if not isinstance(text, str) or not text.strip():
            kind = "empty" if isinstance(text, str) else f"{type(text).__name__} {repr(text)[:60]}"
            raise InputError(
                f"The instruction in row {number} is {kind}; allowed: text. Mend or remove that row."
            )
        for llm in llms:
            if not llm.fits(text):
                raise InputError(
                    f"The instruction in row {number} ({len(text)} characters, {text[:40]!r}…) is longer than the "
                    f"context of {llm.model_name}, {llm.context} tokens. Shorten or remove it, or choose another model."
                )


def check_out(out: Path) -> None:
    """Raise `InputError` if the folder holds something that this job did not write."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file. Give a folder.")
    ours = (out / "dataset" / MARK).is_file() or unfinished(out / "dataset")
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise InputError(
            f"--out {out} holds other files; nothing was written there. Give a new or empty folder."
        )


def write(distiset: Distiset, settings: Settings) -> None:
    """`dataset`, `README.md`, `scores.png` and `margins.png` in the folder `settings.out`."""
    from course_lib import plots

    distiset.save_to_disk(settings.out / "dataset")
    rows = list(distiset["default"]["train"])
    sources = [*settings.models, *([f"{settings.models[0]}, evolved"] if settings.evolve else [])]
    with writing_out("Card and figures", settings.out):
        (settings.out / "README.md").write_text(distiset.card, encoding="utf-8")
        scores = plots.ratings_by_source(rows + distiset.dropped_rows(), sources)
        plots.save(scores, settings.out / "scores.png")
        plots.save(plots.margins(rows), settings.out / "margins.png")
