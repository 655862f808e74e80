"""The main job: instructions in, a preference dataset out.

load → [TextGeneration × models] → GroupColumns → + EvolQuality → rate → FormatTextGenerationDPO
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

from course_lib.card import dataset_card
from course_lib.distiset import Distiset, writing_out
from course_lib.errors import InputError
from course_lib.judging import default_judge, likelihood_panel
from course_lib.llms import LLM
from course_lib.pipeline import Pipeline
from course_lib.settings import Settings
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.base import GeneratorStep, Step
from course_lib.steps.load import load_from, shipped_instructions
from course_lib.steps.prompts import prompt_text
from course_lib.steps.tasks import EvolQuality, Task, TextGeneration, UltraFeedback

JUDGES = {"default": default_judge, "likelihood": likelihood_panel}
ASIDE = "kept as earlier_…"
RESERVED = {"distilabel_metadata", "drop_reason", "dropped_by", "finish_reason", "finish_reasons"}
RESERVED |= {"evolution_criteria", "evolution_failures"}


def make_dataset(settings: Settings, progress: bool | None = None) -> Distiset:
    """Run the whole job and write nothing; the card is in `distiset.card`.

    Raises:
        InputError, WeightsError: before any model is loaded.
    """
    pipeline, columns = build_pipeline(settings)
    distiset = pipeline.run(progress=progress)
    distiset.report.columns = columns
    llms = [llm for step in pipeline.graph.steps.values() for llm in step.llms]
    distiset.card = dataset_card(settings, distiset, llms)
    return distiset


def build_pipeline(settings: Settings) -> tuple[Pipeline, dict[str, list[str]]]:
    """The pipeline that `settings` describe, its instructions already checked, and their `columns_by_use`."""
    if len(settings.models) + settings.evolve < 2:
        raise InputError("One model without --evolve writes one text a row. Give two models, or --evolve.")
    if len(set(settings.models)) < len(settings.models):
        raise InputError("--models names a model twice, which would write the same again. Name each once.")
    with Pipeline(name="preference-dataset") as pipeline:
        load = load_step(settings)
        brief = settings.system_prompt or None
        branches: list[Task] = [
            TextGeneration(llm=settings.llm(model), system_prompt=brief) for model in settings.models
        ]
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
        judge, pairs = judge_step(settings), FormatTextGenerationDPO()
        columns = columns_by_use(load, *branches, group, judge, pairs)
        aside = {name: f"earlier_{name}" for name in columns.get(ASIDE, [])}
        load.output_mappings = {**load.output_mappings, **aside}
        branches >> group >> judge >> pairs
    return pipeline, columns


def load_step(settings: Settings) -> GeneratorStep:
    """The step that reads the instructions."""
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"--limit {settings.limit}; allowed: 1 or more.")
    renamed = {settings.column: "instruction"} if settings.column != "instruction" else {}
    part = {name: value for name in ("config", "split") if (value := getattr(settings, name)) is not None}
    if settings.instructions is None:
        if renamed or part:
            raise InputError("--column, --config and --split say where in --instructions; give those, too.")
        return LoadDataFromDicts(data=shipped_instructions()[: settings.limit])
    path = Path(settings.instructions)
    inner = path.joinpath(*part.values())
    if path.exists() and part and not inner.is_dir() and not (path / "default" / inner.name).is_dir():
        raise InputError(f"{path} has no part {'/'.join(part.values())!r} for --config and --split.")
    return load_from(settings.instructions, num_examples=settings.limit, output_mappings=renamed, **part)


def judge_step(settings: Settings) -> Step:
    """The step that rates: `default`, `likelihood`, `logits`, `text`, or the name of an installed judge.

    A package brings a judge by an entry point of the group `course_lib.judges`: a function without arguments
    that gives a step from rows with `instruction` and `generations` to `ratings`.
    """
    kind, colon, model = settings.judge.partition(":")
    if kind in ("logits", "text"):
        llm = settings.llm(model or settings.models[0])
        return UltraFeedback(llm=llm, mode=kind, rationales=kind == "text")
    if kind in JUDGES and not colon:
        return JUDGES[kind](device=settings.device)
    judges = {entry.name: entry for entry in entry_points(group="course_lib.judges")}
    if kind in judges and not colon:
        return judges[kind].load()()
    allowed = ", ".join([*JUDGES, "logits:MODEL", "text:MODEL", *sorted(judges)])
    raise InputError(f"--judge {settings.judge!r} is unknown; allowed: {allowed} (MODEL may be left out).")


def check_instructions(load: GeneratorStep, llms: list[LLM]) -> None:
    """Raise `InputError` at the first row without an instruction that is text and fits every model."""
    columns = load.columns_after(set())
    if "instruction" not in columns:
        raise InputError(
            f"The instructions have no column 'instruction'; there is: {', '.join(sorted(columns)) or 'none'}. "
            "Name it with --column, or in Python with output_mappings={'prompt': 'instruction'} on the load "
            "step, or with input_mappings={'instruction': 'prompt'} on a task."
        )
    for number, row in enumerate(chain.from_iterable(load.generate_rows()), 1):
        text = row["instruction"]
        if not isinstance(text, str) or not text.strip():
            kind = "empty" if isinstance(text, str) else f"{type(text).__name__} {repr(text)[:60]}"
            raise InputError(f"The instruction in row {number} is {kind}; allowed: text. Mend that row.")
        text = prompt_text(row)
        if full := next((llm for llm in llms if not llm.fits(text)), None):
            raise InputError(
                f"The instruction in row {number} ({len(text)} characters, {text[:40]!r}…) is longer than "
                f"the context of {full.model_name}, {full.context} tokens. Shorten it, or choose another model."
            )


def columns_by_use(load: GeneratorStep, *later: Step) -> dict[str, list[str]]:
    """The columns that `load` reads: `used` by the `later` steps, `not used`, or in their way (`ASIDE`)."""
    inputs = {step.input_mappings.get(name, name) for step in later for name in step.inputs}
    outputs = {step.output_mappings.get(name, name) for step in later for name in step.outputs} | RESERVED
    renamed, columns = load.output_mappings, {}
    for name in load.outputs:
        column = renamed.get(name, name)
        hidden = column in outputs or (name not in renamed and name in renamed.values())
        use = ASIDE if hidden else "used" if column in inputs else "not used"
        columns.setdefault(use, []).append(name)
    return columns


def write(distiset: Distiset, settings: Settings) -> None:
    """`dataset`, `README.md`, `scores.png` and `margins.png` in the folder `settings.out`."""
    from course_lib import plots

    distiset.save_to_disk(settings.out / "dataset")
    rows = list(distiset["default"]["train"])
    sources = [*settings.models, *([f"{settings.models[0]}, evolved"] if settings.evolve else [])]
    with writing_out("Card and figures", settings.out), work_folder(settings.out / ".saving") as folder:
        (folder / "README.md").write_text(distiset.card, encoding="utf-8")
        scores = plots.ratings_by_source(rows + distiset.dropped_rows(), sources)
        plots.save(scores, folder / "scores.png")
        plots.save(plots.margins(rows), folder / "margins.png")
        for file in folder.iterdir():  # a link in its place is replaced, not followed
            os.replace(file, settings.out / file.name)


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards; what a killed run left in its place goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
