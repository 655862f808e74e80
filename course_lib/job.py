"""The main job: instructions in, a preference dataset out.

load → [TextGeneration × models] → GroupColumns → + EvolQuality → rate → FormatTextGenerationDPO
"""

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from course_lib.card import dataset_card
from course_lib.distiset import MARK, Distiset, unfinished, writing_out
from course_lib.errors import InputError
from course_lib.judging import default_judge, likelihood_panel
from course_lib.llms import LLM, plugins
from course_lib.llms.weights import PACKAGED
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, Step
from course_lib.steps.load import LoadDataFromDicts, load_from, shipped_instructions
from course_lib.steps.tasks import EvolQuality, Task, TextGeneration, UltraFeedback

JUDGES = {"default": default_judge, "likelihood": likelihood_panel}


@dataclass
class Settings:
    """What `python -m course_lib` can be told; the names are those of its options."""

    instructions: str | None = None
    column: str = "instruction"
    models: list[str] = field(default_factory=lambda: list(PACKAGED))
    judge: str = "default"
    evolve: bool = True
    limit: int | None = None
    seed: int = 0
    out: Path = Path("output")
    device: str | None = None
    max_new_tokens: int = 96

    def llm(self, model: str) -> LLM:
        """The language model of that name, with the sampling arguments of this job."""
        arguments = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        # A model of a plugin need not know what a device is.
        device = {"device": self.device} if self.device else {}
        return plugins.llm(model, generation_kwargs=arguments, **device)

    @property
    def sources(self) -> list[str]:
        """A label for each completion of a row, in order."""
        return [*self.models, *([f"{self.models[0]}, evolved"] if self.evolve else [])]


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
        load = _load_step(settings)
        check_instructions(load, [settings.llm(model) for model in settings.models])
        branches: list[Task] = [TextGeneration(llm=settings.llm(model)) for model in settings.models]
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
        branches >> group >> judge_task(settings) >> FormatTextGenerationDPO()
    return pipeline


def judge_task(settings: Settings) -> Step:
    """The step that rates: `default`, `likelihood`, `logits`, `text`, or the name of an installed judge.

    A package brings a judge by an entry point of the group `course_lib.judges`: a function without arguments that
    gives a step from rows with `instruction` and `generations` to `ratings`.
    """
    kind, _, model = settings.judge.partition(":")
    if kind in JUDGES:
        return JUDGES[kind](device=settings.device)
    if kind in ("logits", "text"):
        llm = settings.llm(model or settings.models[0])
        return UltraFeedback(llm=llm, mode=kind, rationales=kind == "text")
    judges = {entry.name: entry for entry in entry_points(group="course_lib.judges")}
    if kind not in judges:
        allowed = ", ".join([*JUDGES, "logits:MODEL", "text:MODEL", *sorted(judges)])
        raise InputError(
            f"--judge {settings.judge!r} is unknown; allowed: {allowed} (MODEL may be left out)."
        )
    return judges[kind].load()()


def _load_step(settings: Settings):
    renamed = {settings.column: "instruction"} if settings.column != "instruction" else {}
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"--limit {settings.limit}; allowed: 1 or more.")
    if settings.instructions is None:
        return LoadDataFromDicts(data=shipped_instructions()[: settings.limit])
    return load_from(settings.instructions, num_examples=settings.limit, output_mappings=renamed)


def check_instructions(load, llms: list[LLM]) -> None:
    """Raise `InputError` at the first row whose instruction is missing, not text, empty, or too long for a model."""
    columns = load.columns_after(set())
    if "instruction" not in columns:
        raise InputError(
            f"The instructions have no column 'instruction'; there is: {', '.join(sorted(columns)) or 'none'}. Name the right "
            "one with --column, or in Python with output_mappings={'prompt': 'instruction'} on the load step "
            "(or input_mappings={'instruction': 'prompt'} on a task)."
        )
    rows = (row for batch in load.generate_rows() for row in batch)
    number = 0
    for number, row in enumerate(rows, 1):
        _check_instruction(row.get("instruction"), number, llms)
    if not number:
        raise InputError("There are no instructions. Give a file with at least one row.")


def _check_instruction(text: Any, number: int, llms: list[LLM]) -> None:
    if not isinstance(text, str) or not text.strip():
        kind = "empty" if isinstance(text, str) else f"{type(text).__name__} {repr(text)[:60]}"
        raise InputError(
            f"The instruction in row {number} is {kind}; allowed: text. Mend or remove that row."
        )
    for model in llms:
        if not model.fits(text):
            raise InputError(
                f"The instruction in row {number} ({len(text)} characters, {text[:40]!r}…) is longer than the context of "
                f"{model.model_name}, {model.context} tokens. Shorten or remove it, or choose another model."
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

    out = settings.out
    distiset.save_to_disk(out / "dataset")
    rows = list(distiset["default"]["train"])
    scores = plots.ratings_by_source(rows + distiset.dropped_rows(), settings.sources)
    margins = plots.margins(rows)
    with writing_out("Card and figures", out):
        (out / "README.md").write_text(distiset.card, encoding="utf-8")
        plots.save(scores, out / "scores.png")
        plots.save(margins, out / "margins.png")
