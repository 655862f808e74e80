"""What the main job can be told, and whether folder, device and repository are there."""

from argparse import ArgumentParser, BooleanOptionalAction
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from course_lib.distiset import MARK, unfinished, writing_out
from course_lib.errors import InputError
from course_lib.llms import LLM, plugins
from course_lib.llms.weights import PACKAGED

# A text that is cut off is on neither side of a pair, so models are asked to come to an end.
BRIEF = "Answer in at most three sentences."


def option(help: str, default: Any = None, **arguments: Any) -> Any:
    """A field of `Settings`, with what argparse's `add_argument` takes for it."""
    told = {"help": help if default is None else f"{help} (default: %(default)s)", **arguments}
    return field(default_factory=lambda: copy(default), metadata={**told, "default": default})


def add_options(parser: ArgumentParser, settings: type) -> None:
    """Give `parser` an option for each field of `settings` that was made by `option`."""
    for setting in fields(settings):
        if setting.metadata:
            parser.add_argument(f"--{setting.name.replace('_', '-')}", **setting.metadata)


@dataclass
class Settings:
    """What `python -m course_lib` can be told; each field is the option of that name."""

    instructions: str | None = option("file, saved dataset, hub id (default: the course's)", metavar="SOURCE")
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
    max_new_tokens: int = option("longest completion, in tokens", 160, type=int, metavar="N")
    system_prompt: str = option("what models are told first; '' for nothing", BRIEF, metavar="TEXT")
    push_to_hub: str | None = option("also upload the dataset to this repository, org/name", metavar="REPO")

    def llm(self, model: str) -> LLM:
        """The language model of that name, with the sampling arguments of this job."""
        arguments = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        try:
            return plugins.llm(model, self.device, generation_kwargs=arguments)
        except TypeError as error:  # a model of a package has settings of its own
            raise InputError(f"The model {model!r} does not take these options ({error}).") from error


def check_surroundings(settings: Settings) -> None:
    """Raise now what would stop the job late: folder (which is made), device and repository."""
    out = settings.out
    with writing_out("The dataset", out):
        ours = not out.is_dir() or (out / "dataset" / MARK).is_file() or unfinished(out / "dataset")
        if not ours and any(out.iterdir()):
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
