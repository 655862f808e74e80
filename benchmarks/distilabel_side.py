"""Side by side with distilabel 1.5.3: the same weights, instructions and sampling arguments, one process tree each.

    .venv/bin/python benchmarks/distilabel_side.py [--tasks pooling evol ultrafeedback] [--sides ours …]

distilabel gets a virtual environment of its own in the user's cache folder. Each run is a fresh process with an empty
cache of results. `seconds` are those of the whole process; `warm_seconds` those between the first request to a loaded
model and the last answer. `distilabel_peer.py` is what runs on the other side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = ("torch==2.13.0", ("distilabel[hf-transformers]==1.5.3", "requests", "bs4", "psutil"))
ARGUMENTS = {"temperature": 0.7, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0}
PEER_SCRIPT = Path(__file__).parent / "distilabel_peer.py"
TASKS = {
    "pooling": {"rows": 16, "max_new_tokens": 64},
    "evol": {"rows": 16, "max_new_tokens": 64},
    # Ours writes at most 60 tokens per rationale within a frame; three of them and the frame are about as long.
    "ultrafeedback": {"rows": 16, "max_new_tokens": 192},
}
SIDES = {
    "ours": ("ours", {}),
    "distilabel": ("peer", {}),
    "distilabel, OMP_NUM_THREADS=1": ("peer", {"OMP_NUM_THREADS": "1"}),
    "distilabel, OMP_WAIT_POLICY=passive": ("peer", {"OMP_WAIT_POLICY": "passive"}),
}


def ours(task: str, job: dict) -> dict:
    from course_lib.llms import TransformersLLM
    from course_lib.pipeline import Pipeline
    from course_lib.steps import GroupColumns, LoadDataFromDicts
    from course_lib.steps.tasks import EvolQuality, TextGeneration, UltraFeedback

    # Two seeds, or the second model would find the first one's texts in the cache.
    llms = [
        TransformersLLM(job["weights"], generation_kwargs={**job["arguments"], "seed": seed})
        for seed in (0, 1)
    ]
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=job["rows"])
        if task == "pooling":
            group = GroupColumns(
                columns=["generation", "model_name"], output_columns=["generations", "models"]
            )
            load >> [TextGeneration(llm=llm) for llm in llms] >> group
        else:
            del llms[1]
            load >> (EvolQuality(llm=llms[0]) if task == "evol" else UltraFeedback(llm=llms[0], mode="text"))
    for llm in llms:
        llm.load()
    started = time.perf_counter()
    pipeline.run(progress=False)
    seconds = time.perf_counter() - started
    return {"warm_seconds": seconds, "tokens": sum(llm.usage.output_tokens for llm in llms)}


# --- around them --------------------------------------------------------------------------------------------------


def peer_python() -> str:
    """The interpreter of distilabel's virtual environment, made the first time."""
    from course_lib.paths import cache_folder

    folder = cache_folder() / "benchmarks" / "distilabel-1.5.3"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "made"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # torch first and alone: a machine without a GPU may have a smaller build of it at hand.
        for wanted in ([PEER[0]], list(PEER[1])):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        done.touch()
    return str(python)


def rows_for(task: str, count: int) -> list[dict]:
    from course_lib.judging import labelled_items
    from course_lib.steps.load import shipped_instructions

    if task == "pooling":
        return [{"instruction": row["instruction"]} for row in shipped_instructions()[:count]]
    items = labelled_items("report")[:count]
    if task == "evol":
        return [{"instruction": item["instruction"], "response": item["worse"]} for item in items]
    return [
        {"instruction": i["instruction"], "generations": [i["good"], i["worse"], i["off_topic"]]}
        for i in items
    ]


def run(task: str, side: str, threads: dict[str, str]) -> dict:
    """One measured run; `side` is `ours` or `peer`."""
    from measuring import watched

    from course_lib.llms.weights import resolve

    settings = TASKS[task]
    with tempfile.TemporaryDirectory() as work:
        job = {
            "weights": str(resolve("smollm2-135m").folder),
            "rows": rows_for(task, settings["rows"]),
            "arguments": {**ARGUMENTS, "max_new_tokens": settings["max_new_tokens"]},
        }
        Path(work, "job.json").write_text(json.dumps(job), encoding="utf-8")
        env = {
            **os.environ,
            "COURSE_LIB_CACHE": f"{work}/cache",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        # What this process was told, or course_lib told it, about threads must not reach the other one.
        env = {name: value for name, value in env.items() if not name.startswith("OMP_")}
        env.update(threads)
        inside = (
            [sys.executable, __file__, "--inside"] if side == "ours" else [peer_python(), str(PEER_SCRIPT)]
        )
        found = watched([*inside, task, work], env)
        return {
            **found,
            **json.loads(Path(work, "found.json").read_text(encoding="utf-8")),
            "rows": settings["rows"],
        }


HEAD = ["task", "side", "s", "s, models loaded", "tokens", "tokens/s", "peak MB"]
RATIOS = ["× s", "× s, models loaded", "× tokens/s", "× memory"]


def report(results) -> str:
    """The tables, as Markdown."""
    from measuring import table

    lines = []
    for task in TASKS:
        found = {side: results["distilabel"].get(f"{task}: {side}") for side in SIDES}
        lines += [_line(task, side, one, found["ours"]) for side, one in found.items()]
    note = (
        "\\* Measured on another day than ours."
        if any(str(line[1]).endswith(" \\*") for line in lines)
        else ""
    )
    return "\n\n".join(part for part in (table([*HEAD, *RATIOS], lines), note) if part)


def _line(task: str, side: str, one: dict | None, base: dict | None) -> list:
    if one is None:
        return [task, side, "still to be measured", *[""] * (len(HEAD) + len(RATIOS) - 3)]
    mark = " \\*" if base and base["day"] != one["day"] else ""
    times = [f"{one['seconds']:.1f}", f"{one['warm_seconds']:.1f}"]
    sizes = [one["tokens"], f"{_pace(one):.0f}", f"{one['peak_bytes'] / 1e6:.0f}"]
    ratios = [f"{ratio:.2f}" for ratio in _ratios(one, base)] if base else [""] * len(RATIOS)
    return [task, side + mark, *times, *sizes, *ratios]


def _pace(one: dict) -> float:
    return one["tokens"] / one["warm_seconds"]


def _ratios(one: dict, base: dict) -> list[float]:
    """How many times as long, as long without start-up, as slow per token and as much memory it took as `base`."""
    longer = [one[name] / base[name] for name in ("seconds", "warm_seconds")]
    return [*longer, _pace(base) / _pace(one), one["peak_bytes"] / base["peak_bytes"]]


def _pooling(results) -> tuple[dict | None, dict, dict]:
    """Ours, distilabel as installed, and the fastest of its runs; empty where it is still to be measured."""
    found = {side: results["distilabel"].get(f"pooling: {side}") for side in SIDES}
    theirs = [one for side, one in found.items() if side != "ours" and one]
    return found["ours"], found["distilabel"] or {}, min(theirs, key=lambda one: one["seconds"], default={})


def targets(results) -> list[list[str]]:
    from measuring import target

    base, installed, best = _pooling(results)
    if not base or not best:
        return []
    lines = []
    for words, one in (("as installed", installed), ("at its fastest", best)):
        for number, (wanted, start) in enumerate(((20, "start-up included"), (30, "models loaded"))):
            if one:
                ratio = _ratios(one, base)[number]
                what = f"pooling beside distilabel {words}, {start}"
                lines.append(target(what, f"{wanted} × as fast", f"{ratio:.1f} ×", ratio >= wanted))
    return lines


def read(results) -> str:
    """What follows from the numbers of pooling."""
    base, installed, best = _pooling(results)
    if not base or not installed or best is installed:
        return ""
    times, start = installed["seconds"] / best["seconds"], base["seconds"] - base["warm_seconds"]
    return (
        f"With fewer threads, or with threads that sleep, pooling is {times:.1f} times as fast as installed: that is the "
        f"figure to compare with. A twentieth of it would be {best['seconds'] / 20:.1f} s for everything; ours needs "
        f"{start:.1f} s before the first request and after the last answer, most of it to import torch and read the weights."
    )


def measure(results, tasks=tuple(TASKS), sides=tuple(SIDES)) -> None:
    for task in tasks:
        for name in sides:
            kind, threads = SIDES[name]
            compute = lambda task=task, kind=kind, threads=threads: run(task, kind, threads)  # noqa: E731
            results.measure("distilabel", f"{task}: {name}", compute, ours=kind == "ours")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--inside", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        task, folder = options.inside
        found = ours(task, json.loads(Path(folder, "job.json").read_text(encoding="utf-8")))
        Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")
        return
    from measuring import default_results

    results = default_results()
    measure(results, options.tasks, options.sides)
    print(report(results))


if __name__ == "__main__":
    main()
