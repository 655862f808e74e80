"""`python -m course_lib`: make a preference dataset. `cache`: look after the stored results. `grade`: exercises."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import fields
from pathlib import Path

from course_lib.errors import CacheError, CourseLibError, InputError
from course_lib.memory import check_memory, memory_ran_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for input that cannot be taken, or 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = {"cache": run_cache, "grade": run_grade}.get(given[0] if given else "")
    try:
        return command(given[1:]) if command else run_dataset(given)
    except CourseLibError as error:
        return failed(f"error: {error}")
    except (MemoryError, RuntimeError, ImportError) as error:
        if not memory_ran_out(error):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        return failed(
            f"error: Memory ran out ({line}). Close other programs, or choose fewer or smaller models with --models, "
            "then run the same command again: what was computed is kept."
        )
    except KeyboardInterrupt:
        return failed(
            "\nStopped. What was computed is kept: run the same command again to go on.", status=130
        )


def failed(line: str, status: int = 2) -> int:
    print(line, file=sys.stderr)
    return status


def run_dataset(given: list[str]) -> int:
    check_memory()
    from datasets import disable_progress_bars

    from course_lib import job

    settings = job.Settings(**vars(dataset_parser().parse_args(given)))
    # A step has a bar; saving takes no time worth one.
    disable_progress_bars()
    job.check_out(settings.out)
    distiset = job.make_dataset(settings)
    job.write(distiset, settings)
    print(summary(distiset, settings))
    if settings.push_to_hub:
        distiset.push_to_hub(settings.push_to_hub)
        print(f"Pushed to https://huggingface.co/datasets/{settings.push_to_hub}")
    return 0


def dataset_parser() -> argparse.ArgumentParser:
    """An option for each field of `job.Settings`."""
    from course_lib.job import Settings

    parser = argparse.ArgumentParser(
        prog="python -m course_lib",
        description="Make a preference dataset: several completions per instruction, rated, best and worst as a pair.",
        epilog="Other commands: python -m course_lib cache --help, python -m course_lib grade --help",
    )
    for option in fields(Settings):
        parser.add_argument(f"--{option.name.replace('_', '-')}", **option.metadata)
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


def run_cache(given: list[str]) -> int:
    from course_lib.llms.cache import default_cache

    parser = argparse.ArgumentParser(
        prog="python -m course_lib cache", description="Look at the stored results, or clear them."
    )
    parser.add_argument("--clear", action="store_true", help="delete all results; converted weights stay")
    parser.add_argument("--yes", action="store_true", help="with --clear: do not ask")
    options, store = parser.parse_args(given), default_cache()
    # A full disk keeps SQLite from opening the file, but not us from deleting it.
    with suppress(CacheError) if options.clear else nullcontext():
        print(cache_table(store))
    if options.clear and (options.yes or _agreed("Delete these results? [y/N] ")):
        count = store.clear()
        print(f"Deleted {'all' if count is None else count} results.")
    elif options.clear:
        print("Nothing was deleted.")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise InputError("Nothing was deleted: nobody is there to answer. Pass --yes.") from None


def cache_table(store) -> str:
    """Where the results and weights lie, and how large they are."""
    weights = store.path.parent / "weights"
    lines = [f"results  {store.path}  {_megabytes(store.files())}"]
    lines += [f"  {model}: {count} results" for model, count, _ in store.summary()]
    return "\n".join([*lines, f"weights  {weights}  {_megabytes(weights.rglob('*'))}"])


def _megabytes(files: Iterable[Path]) -> str:
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.1f} MB"


def run_grade(given: list[str]) -> int:
    from course_lib.exercises.grading import run

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
