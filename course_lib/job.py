"""The main job: instructions in, a preference dataset out.

load → [TextGeneration × models] → GroupColumns → + EvolQuality → rate → FormatTextGenerationDPO
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.distiset import MARK, Distiset, unfinished, writing_out
from course_lib.errors import InputError
from course_lib.llms import TransformersLLM
from course_lib.llms.weights import PACKAGED
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns
from course_lib.steps.load import LoadDataFromDicts, load_from, shipped_instructions
from course_lib.steps.tasks import EvolQuality, Task, TextGeneration, UltraFeedback

JUDGES = ("default", "likelihood", "logits", "text")


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

    def llm(self, model: str) -> TransformersLLM:
        arguments = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        return TransformersLLM(model, device=self.device, generation_kwargs=arguments)

    @property
    def sources(self) -> list[str]:
        """A label for each completion of a row, in order."""
        return [*self.models, *([f"{self.models[0]}, evolved"] if self.evolve else [])]


def make_dataset(settings: Settings, progress: bool | None = None) -> Distiset:
    """Run the whole job and write nothing; the card is in `distiset.card`.

    Raises:
        InputError, WeightsError: before any model is loaded.
    """
    from course_lib.card import dataset_card

    pipeline = build_pipeline(settings)
    distiset = pipeline.run(progress=progress)
    distiset.card = dataset_card(settings, distiset)
    return distiset


def build_pipeline(settings: Settings) -> Pipeline:
    """The pipeline that `settings` describe, its instructions already checked."""
    if len(settings.models) + settings.evolve < 2:
        raise InputError("One model without --evolve gives one completion per instruction. Give two models, or --evolve.")
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
        group = GroupColumns(columns=["generation", "model_name"], output_columns=["generations", "generation_models"])
        branches >> group >> judge_task(settings) >> FormatTextGenerationDPO()
    return pipeline


def judge_task(settings: Settings) -> Task:
    """The task that rates, by its name: `default`, `likelihood`, `logits` or `text`, the last two with `:model`."""
    from course_lib.judging import default_judge, likelihood_panel

    kind, _, model = settings.judge.partition(":")
    if kind not in JUDGES:
        allowed = "default, likelihood, logits:MODEL, text:MODEL"
        raise InputError(f"--judge {settings.judge!r} is unknown; allowed: {allowed} (MODEL may be left out).")
    if kind in ("default", "likelihood"):
        return {"default": default_judge, "likelihood": likelihood_panel}[kind](device=settings.device)
    return UltraFeedback(llm=settings.llm(model or settings.models[0]), mode=kind, rationales=kind == "text")


def _load_step(settings: Settings):
    renamed = {settings.column: "instruction"} if settings.column != "instruction" else {}
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"--limit {settings.limit}; allowed: 1 or more.")
    if settings.instructions is None:
        return LoadDataFromDicts(data=shipped_instructions()[: settings.limit])
    return load_from(settings.instructions, num_examples=settings.limit, output_mappings=renamed)


def check_instructions(load, llms: list[TransformersLLM]) -> None:
    """Raise `InputError` at the first row whose instruction is missing, not text, empty, or too long for a model."""
    columns = load.columns_after(set())
    if "instruction" not in columns:
        raise InputError(
            f"The instructions have no column 'instruction'; there is: {', '.join(sorted(columns)) or 'none'}. Name the right "
            "one with --column, or in Python with output_mappings={'prompt': 'instruction'} on the load step "
            "(or input_mappings={'instruction': 'prompt'} on a task)."
        )
    number = 0
    for rows in load.generate_rows():
        for row in rows:
            number += 1
            _check_instruction(row.get("instruction"), number, llms)
    if not number:
        raise InputError("There are no instructions. Give a file with at least one row.")


def _check_instruction(text: Any, number: int, llms: list[TransformersLLM]) -> None:
    if not isinstance(text, str) or not text.strip():
        came = "empty" if isinstance(text, str) else f"{type(text).__name__} {repr(text)[:60]}"
        raise InputError(f"The instruction in row {number} is {came}; allowed: text. Mend or remove that row.")
    for llm in llms:
        if not llm.fits(text):
            raise InputError(
                f"The instruction in row {number} ({len(text)} characters, {text[:40]!r}…) is longer than the context of "
                f"{llm.model_name}, {llm.context} tokens. Shorten or remove it, or choose another model."
            )


def check_out(out: Path) -> None:
    """Raise `InputError` if the folder holds something that this job did not write."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file. Give a folder.")
    ours = (out / "dataset" / MARK).is_file() or unfinished(out / "dataset")
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise InputError(f"--out {out} holds other files; nothing was written there. Give a new or empty folder.")


def write(distiset: Distiset, settings: Settings) -> None:
    """`dataset`, `README.md`, `scores.png` and `margins.png` in the folder `settings.out`."""
    from course_lib import plots

    out = settings.out
    distiset.save_to_disk(out / "dataset")
    rows = list(distiset["default"]["train"])
    scores, margins = plots.ratings_by_source(rows + dropped_rows(distiset), settings.sources), plots.margins(rows)
    with writing_out("Card and figures", out):
        (out / "README.md").write_text(distiset.card, encoding="utf-8")
        plots.save(scores, out / "scores.png")
        plots.save(margins, out / "margins.png")


def dropped_rows(distiset: Distiset) -> list[dict[str, Any]]:
    return list(distiset["dropped"]["train"]) if "dropped" in distiset else []


def rewrite_outcomes(distiset: Distiset) -> Counter:
    """How the rewrites of EvolQuality went: `used`, or why they were not."""
    rows = [*distiset["default"]["train"], *dropped_rows(distiset)]
    return Counter(fault or "used" for row in rows for fault in row.get("evolution_failures") or [])
