"""What runs in distilabel's own virtual environment; see `distilabel_side.py`, which starts it.

python distilabel_peer.py TASK FOLDER      reads FOLDER/job.json, writes FOLDER/found.json
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

from distilabel.models import TransformersLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import GroupColumns, LoadDataFromDicts
from distilabel.steps.tasks import EvolQuality, TextGeneration, UltraFeedback

NOTES = "DISTILABEL_PEER_NOTES"  # the file to which each step's process adds a line per request


class Timed(TransformersLLM):
    """Notes when it was asked, when it had answered, and with how many tokens."""

    # The arguments that a step may set are read from this method's signature.
    @functools.wraps(TransformersLLM.generate)
    def generate(self, *arguments, **named):
        started = time.time()
        results = super().generate(*arguments, **named)
        tokens = sum(sum(result["statistics"]["output_tokens"]) for result in results)
        with open(os.environ[NOTES], "a", encoding="utf-8") as notes:
            notes.write(json.dumps([started, time.time(), tokens]) + "\n")
        return results


def run(task: str, job: dict, folder: Path) -> dict:
    def llm():
        return Timed(model=job["weights"], generation_kwargs=job["arguments"])

    with Pipeline(name=task, cache_dir=str(folder / "cache")) as pipeline:
        load = LoadDataFromDicts(data=job["rows"])
        if task == "pooling":
            group = GroupColumns(
                columns=["generation", "model_name"], output_columns=["generations", "models"]
            )
            load >> [TextGeneration(llm=llm()), TextGeneration(llm=llm())] >> group
        elif task == "evol":
            load >> EvolQuality(llm=llm(), num_evolutions=1)
        else:
            load >> UltraFeedback(llm=llm(), aspect="overall-rating")
    distiset = pipeline.run(use_cache=False)
    if len(distiset["default"]["train"]) != len(job["rows"]):
        raise RuntimeError(f"{len(job['rows'])} rows in, {len(distiset['default']['train'])} out")
    notes = [json.loads(line) for line in Path(os.environ[NOTES]).read_text(encoding="utf-8").splitlines()]
    starts, ends, tokens = zip(*notes, strict=True)
    return {"warm_seconds": max(ends) - min(starts), "tokens": sum(tokens)}


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    os.environ[NOTES] = str(folder / "notes")
    found = run(task, json.loads((folder / "job.json").read_text(encoding="utf-8")), folder)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
