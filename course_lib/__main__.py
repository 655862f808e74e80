"""`python -m course_lib`: make a preference dataset. `cache`: look after the stored results. `grade`: exercises."""

import argparse
import sys
from collections.abc import Iterable, Sequence
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
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError, ImportError) as error:
        if not memory_ran_out(error):
            raise
        line = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        print(
            f"error: Memory ran out ({line}). Close other programs, or choose fewer or smaller models with --models, then run "
            "the same command again: what was computed is kept.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(
            "\nStopped. What was computed is kept: run the same command again to go on from here.",
            file=sys.stderr,
        )
        return 130


def run_dataset(given: list[str]) -> int:
    options = vars(_dataset_parser().parse_args(given))
    check_memory()
    from datasets import disable_progress_bars

    from course_lib.job import Settings, check_out, make_dataset, write

    # A step has a bar; saving takes no time worth one.
    disable_progress_bars()
    push_to_hub = options.pop("push_to_hub")
    settings = Settings(**{name: value for name, value in options.items() if value is not None})
    check_out(settings.out)
    distiset = make_dataset(settings, progress=None)
    write(distiset, settings)
    print(summary(distiset, settings))
    if push_to_hub:
        distiset.push_to_hub(push_to_hub)
        print(f"Pushed to https://huggingface.co/datasets/{push_to_hub}")
    return 0


def _dataset_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib",
        description="Make a preference dataset: several completions per instruction, rated, best and worst as a pair.",
        epilog="Other commands: python -m course_lib cache --help, python -m course_lib grade --help",
    )
    add = parser.add_argument
    add(
        "--instructions",
        metavar="SOURCE",
        help=".jsonl, .csv or .parquet file, saved dataset, or hub id (default: the course's)",
    )
    add("--column", metavar="NAME", help="the column of the instructions (default: instruction)")
    add(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="packaged names, folders or hub ids (default: smollm2-135m gemma-3-270m)",
    )
    add("--judge", metavar="JUDGE", help="default, likelihood, logits:MODEL, text:MODEL, or an installed one")
    add(
        "--evolve",
        action=argparse.BooleanOptionalAction,
        help="add the first model's completion, rewritten to be better",
    )
    add("--limit", type=int, metavar="N", help="only the first N instructions")
    add("--seed", type=int, help="seed of all sampling (default: 0)")
    add("--max-new-tokens", type=int, metavar="N", help="longest completion, in tokens (default: 96)")
    add("--out", type=Path, metavar="FOLDER", help="where to write (default: output)")
    add("--device", help="cuda, mps or cpu (default: the first that is there)")
    add("--push-to-hub", metavar="REPO", help="also upload the dataset to this repository, org/name")
    return parser


def summary(distiset, settings) -> str:
    """The table that a run ends with, and one pair in full."""
    report, rows = distiset.report, distiset["default"]["train"]
    lines = [("instructions", report.rows_in), ("pairs", report.rows_out)]
    lines += [(f"no pair: {reason}", count) for reason, count in report.drops.most_common()]
    lines += [(f"rewrite {outcome}", count) for outcome, count in sorted(distiset.rewrite_outcomes().items())]
    for model, usage in report.models.items():
        speed = (
            f", {usage['output_tokens'] / usage['writing_seconds']:.0f} tokens/s"
            if usage["output_tokens"]
            else ""
        )
        lines.append(
            (f"{model}: results", f"{usage['new']:.0f} new, {usage['cached']:.0f} from the cache{speed}")
        )
    lines.append(("seconds", f"{report.seconds:.1f}"))
    width = max(len(str(name)) for name, _ in lines)
    table = "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)
    files = f"Written to {settings.out}: dataset/, README.md, scores.png, margins.png"
    return f"\n{table}\n{pair_text(rows[0]) if len(rows) else ''}\n{files}"


def pair_text(row) -> str:
    """A preference pair as text to read."""
    parts = ["", "One pair in full", f"  instruction: {row['prompt']}"]
    for side in ("chosen", "rejected"):
        text = row[side][-1]["content"].replace("\n", "\n    ")
        parts.append(f"  {side} ({row[f'{side}_model']}, rated {row[f'{side}_rating']:.2f}):\n    {text}")
    return "\n".join(parts) + "\n"


def run_cache(given: list[str]) -> int:
    from course_lib.llms.cache import default_cache

    parser = argparse.ArgumentParser(
        prog="python -m course_lib cache", description="Look at the stored results, or clear them."
    )
    parser.add_argument(
        "--clear",
        action="store_true",
        help="delete results and what was set aside as damaged; converted weights stay",
    )
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="with --clear: only results older than this"
    )
    parser.add_argument("--model", help="with --clear: only results of this model")
    parser.add_argument("--yes", action="store_true", help="with --clear: do not ask")
    options = parser.parse_args(given)
    _check_cache_options(options)
    store = default_cache()
    try:
        print(cache_table(store))
    except CacheError as error:
        # A full disk keeps SQLite from opening the file, but not us from deleting it.
        if not options.clear:
            raise
        print(error)
    if not options.clear:
        return 0
    if options.model is not None and options.model not in (
        models := [name for name, _, _ in store.summary()]
    ):
        print(
            f"Deleted 0 results: none is of the model {options.model!r}. There are those of: {', '.join(models) or 'none'}."
        )
        return 0
    if not options.yes and not _agreed("Delete these results? [y/N] "):
        print("Nothing was deleted.")
        return 0
    count = store.clear(options.older_than, options.model)
    print(f"Deleted {'all' if count is None else count} results.")
    return 0


def _check_cache_options(options: argparse.Namespace) -> None:
    days = options.older_than
    if not options.clear and (days is not None or options.model is not None):
        raise InputError(
            "--older-than and --model say which results to delete; add --clear to delete them, or leave them out."
        )
    if days is not None and not 0 <= days < float("inf"):
        raise InputError(f"--older-than {days:g}; allowed: days, a number from 0.")


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise InputError(
            "Nothing was deleted: nobody is there to answer. Pass --yes to delete without the question."
        ) from None


def run_grade(given: list[str]) -> int:
    from course_lib.exercises.grading import MEMORY, SECONDS, grade_folder, grade_table, write_csv

    parser = argparse.ArgumentParser(
        prog="python -m course_lib grade", description="Grade submitted exercise notebooks."
    )
    parser.add_argument("folder", type=Path, help="the folder that holds the notebooks, at any depth")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="where to write the table (default: grades.csv in FOLDER)"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="time limit of a notebook (default: %(default)s)"
    )
    parser.add_argument(
        "--memory",
        type=int,
        default=MEMORY >> 20,
        metavar="MB",
        help="and memory limit (default: %(default)s)",
    )
    options = parser.parse_args(given)
    grades = grade_folder(options.folder, options.seconds, options.memory << 20)
    file = options.csv or options.folder / "grades.csv"
    print(grade_table(grades))
    write_csv(grades, file)
    print(f"Written to {file}")
    return 0


def cache_table(store) -> str:
    """Where the results and weights lie, and how large they are."""
    weights = store.path.parent / "weights"
    lines = [f"results  {store.path}  {_megabytes(store.files())}"]
    lines += [
        f"  {model}: {count} results, {bytes_ / 1e6:.1f} MB of text"
        for model, count, bytes_ in store.summary()
    ]
    if damaged := store.count_damaged():
        lines.append(f"  {damaged} of these are damaged; each is made again when it is needed")
    if aside := store.damaged_files():
        lines.append(
            f"damaged  {len(aside)} files {store.path.parent / 'results.damaged-*'}  {_megabytes(aside)}"
        )
    return "\n".join(
        [*lines, f"weights  {weights}  {_megabytes(file for file in weights.rglob('*') if file.is_file())}"]
    )


def _megabytes(files: Iterable[Path]) -> str:
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
