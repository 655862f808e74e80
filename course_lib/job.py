"""The main job: instructions in, a preference dataset out.

load → [TextGeneration × models] → GroupColumns → + EvolQuality → rate → FormatTextGenerationDPO
"""

import os
from argparse import BooleanOptionalAction
from copy import copy
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from course_lib.card import dataset_card
from course_lib.distiset import MARK, Distiset, unfinished, writing_out
from course_lib.errors import InputError, OutputError
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

    instructions: str | None = option("file, saved dataset, hub id (default: ours)", metavar="SOURCE")
    column: str = option("the column of the instructions", "instruction", metavar="NAME")
    config: str | None = option("which part of a saved dataset, or of one on the hub", metavar="NAME")
    split: str | None = option("which split of it (default: train)", metavar="NAME")
    models: list[str] = option("packaged names, folders or hub ids", [*PACKAGED], nargs="+", metavar="MODEL")
    judge: str = option("default, likelihood, logits:MODEL, text:MODEL, or an installed one", "default")
    evolve: bool = option("add a rewrite of the first model's completion", True, action=BooleanOptionalAction)
    limit: int | None = option("only the first N instructions", type=int, metavar="N")
    seed: int = option("seed of all sampling", 0, type=int)
    out: Path = option("where to write", Path("output"), type=Path, metavar="FOLDER")
    device: str | None = option("cuda, mps or cpu (default: the first that is there)")
    max_new_tokens: int = option("longest completion, in tokens", 96, type=int, metavar="N")
    push_to_hub: str | None = option("also upload the dataset to this repository, org/name", metavar="REPO")

    def llm(self, model: str) -> LLM:
        """The language model of that name, with the sampling arguments of this job."""
        arguments = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        try:
            return plugins.llm(model, self.device, generation_kwargs=arguments)
        except TypeError as error:  # a model of a package has settings of its own
            raise InputError(f"The model {model!r} does not take these options ({error}).") from error


def make_dataset(settings: Settings, progress: bool | None = None) -> Distiset:
    """Run the whole job and write nothing; the card is in `distiset.card`.

    Raises:
        InputError, WeightsError: before any model is loaded.
    """
    pipeline = build_pipeline(settings)
    distiset = pipeline.run(progress=progress)
    distiset.report.columns = columns_by_use(*pipeline.graph.steps.values())
    llms = [llm for step in pipeline.graph.steps.values() for llm in step.llms]
    distiset.card = dataset_card(settings, distiset, llms)
    return distiset


def build_pipeline(settings: Settings) -> Pipeline:
    """The pipeline that `settings` describe, its instructions already checked."""
    if len(settings.models) + settings.evolve < 2:
        raise InputError(
            "One model without --evolve gives one completion each. Give two models, or --evolve."
        )
    if len(set(settings.models)) < len(settings.models):
        raise InputError("--models names a model twice, which would write the same again. Name each once.")
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
    renamed = {settings.column: "instruction"} if settings.column != "instruction" else {}
    part = {name: value for name in ("config", "split") if (value := getattr(settings, name)) is not None}
    if settings.instructions is None:
        if renamed or part:
            raise InputError("--column, --config and --split say where in --instructions; give those, too.")
        return LoadDataFromDicts(data=shipped_instructions()[: settings.limit])
    if part and Path(settings.instructions).is_file():
        raise InputError("--config and --split are for saved datasets and the hub; a file has none.")
    return load_from(settings.instructions, num_examples=settings.limit, output_mappings=renamed, **part)


def judge_step(settings: Settings) -> Step:
    """The step that rates: `default`, `likelihood`, `logits`, `text`, or the name of an installed judge.

    A package brings a judge by an entry point of the group `course_lib.judges`: a function without arguments that
    gives a step from rows with `instruction` and `generations` to `ratings`.
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
            "Name the right one with --column, or in Python with output_mappings={'prompt': 'instruction'} on the "
            "load step (or input_mappings={'instruction': 'prompt'} on a task)."
        )
    for number, row in enumerate(chain.from_iterable(load.generate_rows()), 1):
        text = row["instruction"]
        if not isinstance(text, str) or not text.strip():
            kind = "empty" if isinstance(text, str) else f"{type(text).__name__} {repr(text)[:60]}"
            raise InputError(f"The instruction in row {number} is {kind}; allowed: text. Mend that row.")
        for llm in llms:
            if not llm.fits(text):
                raise InputError(
                    f"The instruction in row {number} ({len(text)} characters, {text[:40]!r}…) is longer than the "
                    f"context of {llm.model_name}, {llm.context} tokens. Shorten or remove it, or choose another model."
                )


def columns_by_use(load: GeneratorStep, *later: Step) -> dict[str, list[str]]:
    """The columns that `load` reads: `used` by the `later` steps, `not used`, or `replaced` by what they write."""
    inputs = {step.input_mappings.get(name, name) for step in later for name in step.inputs}
    outputs = {step.output_mappings.get(name, name) for step in later for name in step.outputs}
    renamed, columns = load.output_mappings, {}
    for name in load.outputs:
        column = renamed.get(name, name)
        hidden = column in outputs or (name not in renamed and name in renamed.values())
        use = "replaced" if hidden else "used" if column in inputs else "not used"
        columns.setdefault(use, []).append(name)
    return columns


def check_surroundings(settings: Settings) -> None:
    """Raise now what would stop the job late: folder (which is made), device and repository."""
    out = settings.out
    with writing_out("The dataset", out):
        ours = (out / "dataset" / MARK).is_file() or unfinished(out / "dataset")
        if out.is_dir() and any(out.iterdir()) and not ours:
            raise InputError(f"--out {out} holds other files, which stay. Give a new or empty folder.")
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    if settings.device is not None:
        check_device(settings.device)
    if settings.push_to_hub is not None:
        check_repository(settings.push_to_hub)


def check_device(device: str) -> None:
    """Raise `InputError` unless this machine has the device."""
    import torch

    there = torch.accelerator.current_accelerator(check_available=True)
    numbers = ["", *(f":{n}" for n in range(torch.accelerator.device_count()))]
    allowed = ["cpu", *(there.type + number for number in numbers if there)]
    if device not in allowed:
        raise InputError(f"--device {device!r} is not on this machine; there is: {', '.join(allowed)}.")


def check_repository(name: str) -> None:
    """Raise unless whoever is logged in may have a dataset of that name."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(name)
    user = HfApi().whoami()
    owners = [user["name"], *(group["name"] for group in user.get("orgs", []))]
    if name.partition("/")[0] not in owners or "/" not in name:
        raise InputError(f"--push-to-hub {name!r}; allowed: a name after {'/ or '.join(owners)}/.")


def write(distiset: Distiset, settings: Settings) -> None:
    """`dataset`, `README.md`, `scores.png` and `margins.png` in the folder `settings.out`."""
    from course_lib import plots

    distiset.save_to_disk(settings.out / "dataset")
    rows = list(distiset["default"]["train"])
    sources = [*settings.models, *([f"{settings.models[0]}, evolved"] if settings.evolve else [])]
    with writing_out("Card and figures", settings.out), TemporaryDirectory(dir=settings.out) as folder:
        (Path(folder) / "README.md").write_text(distiset.card, encoding="utf-8")
        scores = plots.ratings_by_source(rows + distiset.dropped_rows(), sources)
        plots.save(scores, Path(folder) / "scores.png")
        plots.save(plots.margins(rows), Path(folder) / "margins.png")
        for file in Path(folder).iterdir():  # a link in its place is replaced, not followed
            os.replace(file, settings.out / file.name)


def publish(distiset: Distiset, settings: Settings) -> None:
    """Upload the dataset; what stops that is an `OutputError` that says where the dataset is."""
    try:
        distiset.push_to_hub(settings.push_to_hub)
    except Exception as error:  # of three libraries, without a common kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutputError(
            f"The dataset is in {settings.out / 'dataset'}, but could not be pushed to {settings.push_to_hub} ({reason}). "
            "Check the network and `hf auth login`, then run the same command again: what was computed is kept."
        ) from error
