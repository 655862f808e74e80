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
    llms = [TransformersLLM(job["weights"], generation_kwargs={**job["arguments"], "seed": seed}) for seed in (0, 1)]
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=job["rows"])
        if task == "pooling":
            group = GroupColumns(columns=["generation", "model_name"], output_columns=["generations", "models"])
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
    return [{"instruction": i["instruction"], "generations": [i["good"], i["worse"], i["off_topic"]]} for i in items]


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
        env = {**os.environ, "COURSE_LIB_CACHE": f"{work}/cache", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        # What this process was told, or course_lib told it, about threads must not reach the other one.
        env = {name: value for name, value in env.items() if not name.startswith("OMP_")}
        env.update(threads)
        inside = [sys.executable, __file__, "--inside"] if side == "ours" else [peer_python(), str(PEER_SCRIPT)]
        found = watched([*inside, task, work], env)
        return {**found, **json.loads(Path(work, "found.json").read_text(encoding="utf-8")), "rows": settings["rows"]}


def report(results) -> str:
    """The tables, as Markdown."""
    from measuring import table

    head = ["task", "side", "s", "s, models loaded", "tokens", "tokens/s", "peak MB", "× ours", "× ours, models loaded"]
    lines = []
    for task in TASKS:
        found = {side: results["distilabel"].get(f"{task}: {side}") for side in SIDES}
        for side, one in found.items():
            if one is None:
                lines.append([task, side, "still to be measured", *[""] * 6])
                continue
            pace = [one["tokens"], f"{one['tokens'] / one['warm_seconds']:.0f}", f"{one['peak_bytes'] / 1e6:.0f}"]
            base = found["ours"] or {}
            times = [f"{one[k] / base[k]:.1f}" if base else "" for k in ("seconds", "warm_seconds")]
            lines.append([task, side, f"{one['seconds']:.1f}", f"{one['warm_seconds']:.1f}", *pace, *times])
    return table(head, lines)


def measure(results, tasks=tuple(TASKS), sides=tuple(SIDES)) -> None:
    for task in tasks:
        for name in sides:
            results.measure("distilabel", f"{task}: {name}", lambda task=task, name=name: run(task, *SIDES[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--inside", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        task, folder = options.inside
        found = ours(task, json.loads(Path(folder, "job.json").read_text(encoding="utf-8")))
        Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")
        return
    from speed import default_results

    results = default_results()
    measure(results, options.tasks, options.sides)
    print(report(results))


if __name__ == "__main__":
    main()
