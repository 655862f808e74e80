"""`python -m course_lib`: make a preference dataset. `audit`: its faults. `train`: on it. `cache`: results. `grade`."""

import argparse
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib.errors import CourseLibError, InputError, OutputError
from course_lib.memory import check_memory, memory_ran_out
from course_lib.paths import cache_folder
from course_lib.tables import visible

# Errors of others are about what they were to read: a model's folder, a file, an answer of the hub.
LIBRARIES = (
    "course_lib|trl|peft|transformers|tokenizers|safetensors|jinja2|pyarrow|datasets|huggingface_hub|httpx"
)
CURES = {
    OSError: "Check that name, its permissions, the disk and the network",
    UnicodeError: "Save the file, or write the name, as UTF-8",
    RecursionError: "Make what is nested so deeply (a file or a template) simpler",
}


class Parser(argparse.ArgumentParser):
    """One whose errors are `InputError`s."""

    def error(self, message: str):
        raise InputError(f"{message}. `{self.prog} --help` lists what is allowed.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 1 where an audit found faults, or for a fault of ours, which says so; 2 for what a user
        can mend; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"audit": run_audit, "cache": run_cache, "grade": run_grade, "train": run_train}
    command = commands.get(given[0] if given else "")
    try:
        return command(given[1:]) if command else run_dataset(given)
    except KeyboardInterrupt:
        say("\nStopped. What was computed is kept: run the same command again to go on.", sys.stderr)
        return 130
    except Exception as error:
        line = explained(error)
        say(f"error: {' '.join((line or reported(error)).split())}", sys.stderr)
        return 2 if line else 1


def say(text: str, stream: Any = None) -> None:
    """Print `text` without control characters, in any encoding, whether or not somebody still reads it."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(visible(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def explained(error: Exception) -> str | None:
    """The cause of `error` and what to do, or None for a fault of ours."""
    if isinstance(error, CourseLibError):
        return str(error)
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300].rstrip(".")
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = (re.match(LIBRARIES, name) for name in [type(error).__module__, *reversed(frames)])
    library = next((module[0] for module in modules if module), "course_lib")
    cures = [cure for kind, cure in CURES.items() if isinstance(error, kind)]
    if memory_ran_out(error):
        cures = ["Memory ran out: close other programs, or choose fewer or smaller models or batches"]
    elif library in ("huggingface_hub", "httpx"):
        cures = ["Check the name, the network and `hf auth login`"]
    elif "home directory" in reason:
        cures = ["Write the path without ~"]
    elif not cures and library != "course_lib":
        cures = [f"{library} cannot go on with that: mend the name, the model or the file"]
    return f"{type(error).__name__}: {reason}. {cures[0]}, then run the same again." if cures else None


def reported(error: Exception) -> str:
    """Put the traceback into a file; what to do with it."""
    path = Path(tempfile.mkdtemp(prefix="course_lib-"), "traceback.txt")
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    return f"{type(error).__name__}: a fault of ours, or of an installed model or judge. Please report {path}"


def run_dataset(given: list[str]) -> int:
    check_memory()
    from datasets import disable_progress_bars

    from course_lib import job
    from course_lib.settings import Settings, check_surroundings

    settings = Settings(**vars(dataset_parser().parse_args(given)))
    # A step has a bar; saving takes no time worth one.
    disable_progress_bars()
    check_surroundings(settings)
    distiset = job.make_dataset(settings)
    job.write(distiset, settings)
    say(summary(distiset, settings))
    if settings.push_to_hub:
        try:
            distiset.push_to_hub(settings.push_to_hub)
        except Exception as error:  # of three libraries, without a common kind
            reason = explained(error) or str(error)
            raise OutputError(f"Written to {settings.out / 'dataset'}, not to the hub: {reason}") from error
        say(f"Pushed to https://huggingface.co/datasets/{settings.push_to_hub}")
    return 0


def dataset_parser() -> Parser:
    """An option for each field of `Settings`."""
    from course_lib.settings import Settings, add_options

    parser = Parser(
        prog="python -m course_lib",
        description="Make preference data: several completions per instruction, best and worst as a pair.",
        epilog="Other commands, each with --help: python -m course_lib audit, train, cache, grade",
    )
    add_options(parser, Settings)
    return parser


def summary(distiset, settings) -> str:
    """The table that a run ends with, and one pair in full."""
    from course_lib.card import outcome

    lines = dict(outcome(distiset))
    for model, usage in distiset.report.models.items():
        lines[f"{model}: results"] = f"{usage['new']:.0f} new, {usage['cached']:.0f} from the cache"
        if usage["output_tokens"]:
            speed = usage["output_tokens"] / usage["writing_seconds"]
            lines[f"{model}: results"] += f", {speed:.0f} tokens/s"
    lines["seconds"] = f"{distiset.report.seconds:.1f}"
    width = max(map(len, lines))
    table = "".join(f"\n  {name:<{width}}  {value}" for name, value in lines.items())
    pairs = [pair_text(row) for row in distiset["default"]["train"].select(range(bool(lines["pairs"])))]
    files = f"\nWritten to {settings.out}: dataset/, README.md, scores.png, margins.png"
    return "\n".join([table, *pairs, files])


def pair_text(row) -> str:
    """A preference pair as text to read."""
    lines = ["\nOne pair in full", f"  instruction: {row['prompt']}"]
    for side in ("chosen", "rejected"):
        lines.append(f"  {side} ({row[f'{side}_model']}, rated {row[f'{side}_rating']:.2f}):")
        lines.append("    " + row[side][-1]["content"].replace("\n", "\n    "))
    return "\n".join(lines)


def audit_parser() -> Parser:
    parser = Parser(
        prog="python -m course_lib audit",
        description="Find faults of preference data: chosen and rejected, or completions with ratings.",
        epilog="Exit status 1 where faults were found, 0 where none was.",
    )
    parser.add_argument("source", nargs="+", help="files, a folder of files, a saved dataset or a hub id")
    parser.add_argument("--tokenizer", metavar="MODEL", help="find pairs that are too long for this model")
    parser.add_argument("--max-length", type=int, metavar="N", help="longest pair in tokens (default: 1024)")
    parser.add_argument(
        "--out", type=Path, default=Path("audit"), metavar="FOLDER", help="for report and figure"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="also write the rows that have no faults"
    )
    return parser


def run_audit(given: list[str]) -> int:
    """Print what is wrong with preference data; 1 if anything is."""
    options = audit_parser().parse_args(given)
    if options.max_length is not None and (options.tokenizer is None or options.max_length < 1):
        raise InputError(
            "--max-length counts tokens of --tokenizer MODEL; allowed: 1 or more, with --tokenizer."
        )
    from course_lib.audit import audit
    from course_lib.audit_report import check_folder, text, write_remaining, write_report
    from course_lib.llms import plugins

    if options.write:
        check_folder(options.write)
    tokenizer = plugins.llm(options.tokenizer, None).tokenizer if options.tokenizer else None
    report = audit(options.source, tokenizer, options.max_length or 1024)
    say(text(report))
    files = write_report(report, ", ".join(options.source), options.out)
    say(f"Written: {', '.join(map(str, files))}")
    if options.write:
        for name, count in write_remaining(options.source, report, options.write).items():
            say(f"Written: {options.write / name}, {count} rows")
    return 1 if report.faults else 0


def train_parser() -> Parser:
    from course_lib.settings import add_options
    from course_lib.training import Training

    parser = Parser(prog="python -m course_lib train", description="Train a LoRA adapter by DPO.")
    parser.add_argument("source", nargs="+", help="files, a folder of files, a saved dataset or a hub id")
    add_options(parser, Training)
    return parser


def run_train(given: list[str]) -> int:
    """Write an adapter trained on preference data; one that is there already is only told about."""
    check_memory()
    from course_lib.training import METRICS, Training, train

    settings = Training(**vars(train_parser().parse_args(given)))
    is_done = (settings.out / METRICS).is_file()
    held_out = [entry for entry in train(settings)["log"] if "eval_loss" in entry]
    for when, entry in zip(("before", "after"), held_out, strict=False):
        accuracy = entry["eval_rewards/accuracies"]
        say(f"{when}, on pairs held out: loss {entry['eval_loss']:.3f}, reward accuracy {accuracy:.2f}")
    outcome = "Nothing was done, this training is finished" if is_done else "Written"
    say(f"{outcome}: {settings.out / 'README.md'}")
    return 0


def run_cache(given: list[str]) -> int:
    from course_lib.llms.cache import default_cache
    from course_lib.llms.packaged import tidy

    parser = Parser(prog="python -m course_lib cache", description="Where results and weights lie.")
    parser.add_argument("--clear", action="store_true", help="delete all results, not the weights")
    parser.add_argument("--yes", action="store_true", help="with --clear: do not ask")
    options, folder = parser.parse_args(given), cache_folder()
    if options.yes and not options.clear:
        raise InputError(
            "--yes answers the question of --clear, which is missing. Add it, or leave --yes out."
        )
    for name, files in {"results.sqlite": "results*", "weights": "weights/**/*"}.items():
        size = sum(file.stat().st_size for file in folder.glob(files) if file.is_file())
        say(f"{folder / name}  {size / 1e6:.1f} MB")
    if options.clear and (options.yes or _agreed("Delete these results? [y/N] ")):
        count = default_cache().clear()
        tidy(folder / "weights")
        say(f"Deleted {'all' if count is None else count} results.")
    elif options.clear:
        say("Nothing was deleted.")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise InputError("Nothing was deleted: nobody is there to answer. Pass --yes.") from None


def run_grade(given: list[str]) -> int:
    from course_lib.exercises.grading import run

    return run(given, say)


if __name__ == "__main__":
    sys.exit(main())
