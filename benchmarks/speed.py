"""How fast: all measurements, and docs/speed.md from them.

    .venv/bin/python benchmarks/speed.py [--parts distilabel limits gpu] [--fresh]

Every number is kept in the user's cache folder as soon as it is known, so a run that was stopped goes on; `--fresh`
forgets those of the parts first. The page shows numbers of the present code only: a change in `course_lib` makes those of
before as good as not measured. The part distilabel takes 25 minutes on two cores. Keep the machine quiet, and the code as
it is.
"""

import argparse
import tempfile
from pathlib import Path

import distilabel_side
import limits
from measuring import SAMPLING_PAUSE, Results, default_results, machine, seconds_of, source_hash, table

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
PARTS = ("distilabel", "limits", "gpu")
# Shapes of models that do not come by pip; speed does not depend on what the weights are.
SHAPES = {
    "SmolLM2-1.7B": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "Qwen2.5-1.5B": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
}


# --- on a GPU -----------------------------------------------------------------------------------------------------


def random_model(shape: dict, folder: Path, dtype: str = "bfloat16") -> Path:
    """A model of `shape` with random weights and the tokenizer of smollm2-135m, saved in `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from course_lib.llms import TransformersLLM

    tokenizer = TransformersLLM("smollm2-135m").tokenizer
    settings = {
        "vocab_size": len(tokenizer),
        **shape,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def generate_batch(llm, batch: int) -> dict:
    """Seconds of Transformers' continuous batching for the rows of `limits.decoding`."""
    from transformers import GenerationConfig

    length = {"max_new_tokens": limits.NEW_TOKENS, "min_new_tokens": limits.NEW_TOKENS}
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 50, **length}
    # No end token: rows must write as many tokens as ours do.
    settings = GenerationConfig(**sampling, pad_token_id=llm.tokenizer.pad_token_id or 0, eos_token_id=-1)
    prompts = limits.prompts(llm, batch)
    written = {}

    def run():
        written.update(
            llm.hf_model.generate_batch(inputs=prompts, generation_config=settings, progress_bar=False)
        )

    # The first call sets the continuous batching up.
    seconds = seconds_of(run, repeat=2)
    return {"seconds": seconds, "tokens": sum(len(row.generated_tokens) for row in written.values())}


def measure_gpu(results: Results) -> None:
    """The tables of `limits` on a GPU, and `generate_batch` beside them; nothing where there is none."""
    import torch

    from course_lib.llms import TransformersLLM

    if not torch.cuda.is_available():
        return
    results.put("gpu", "device", {"name": torch.cuda.get_device_name()})
    _measure_model(results, TransformersLLM("smollm2-135m", use_cache=False), "smollm2-135m")
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as work:
            folder = random_model(shape, Path(work) / name)
            _measure_model(results, TransformersLLM(str(folder), use_cache=False), name)


def _measure_model(results: Results, llm, name: str) -> None:
    limits.measure(results, llm, label=f"gpu {name}")
    for batch in (32, 256):
        results.measure("gpu", f"{name}: generate_batch {batch}", lambda: generate_batch(llm, batch))  # noqa: B023 - called at once
    llm.unload()


def gpu_report(results: Results) -> str:
    if "device" not in results["gpu"]:
        return (
            "**The tables for a GPU are still to be measured.** `benchmarks/speed.py --parts gpu` makes them where there "
            "is one: the tables of the section before with smollm2-135m and with random weights of the shape of "
            f"{' and '.join(SHAPES)} in bfloat16, and Transformers' `generate_batch` beside our batches."
        )
    parts = [f"On one {results['gpu']['device']['name']}."]
    lines = []
    for name in ("smollm2-135m", *SHAPES):
        parts.append(limits.report(results, f"gpu {name}"))
        for batch in (32, 256):
            theirs, ours = (
                results["gpu"].get(f"{name}: generate_batch {batch}"),
                results[f"gpu {name}"].get(f"decoding {batch}"),
            )
            if theirs and ours:
                pace = [theirs["tokens"] / theirs["seconds"], batch * limits.NEW_TOKENS / ours["seconds"]]
                lines.append([name, batch, *(f"{p:.0f}" for p in pace), f"{pace[1] / pace[0]:.2f}"])
    parts.append(table(["model", "rows", "generate_batch, tokens/s", "ours, tokens/s", "ratio"], lines))
    return "\n\n".join(part for part in parts if part)


# --- the page -------------------------------------------------------------------------------------------------------


def page(results: Results) -> str:
    side = (SIDE_BY_SIDE, distilabel_side.report(results), SIDE_BY_SIDE_READ, distilabel_side.read(results))
    sections = {
        "What it must reach": (targets(results),),
        "Beside distilabel 1.5.3": side,
        "Against the limit of the machine": (LIMITS, limits.report(results), LIMITS_READ),
        "bfloat16 on this CPU": (limits.report(results, "limits bfloat16"),),
        "On a GPU": (gpu_report(results),),
    }
    intro = f"# How fast\n\nMade by `benchmarks/speed.py` on {machine()}. Trust the ratios: absolute times are of one machine."
    when = f"Measured {' and '.join(results.days) or 'never'}, with the code of `course_lib` in one state ({source_hash()})."
    parts = [
        f"## {title}\n\n" + "\n\n".join(part for part in parts if part) for title, parts in sections.items()
    ]
    return "\n\n".join([f"{intro} {when}", *parts, RECORDED]) + "\n"


def targets(results: Results) -> str:
    """What was to be reached, and whether it is."""
    lines = [line for module in (distilabel_side, limits) for line in module.targets(results)]
    return (
        table(["what", "target", "measured", "reached"], lines)
        if lines
        else "Still to be measured on a quiet machine."
    )


SIDE_BY_SIDE = f"""\
The same weights (smollm2-135m, float32), instructions and sampling arguments; two models in `pooling`, which are the same
one twice. Each run is a fresh process with an empty cache. "s" is the whole process with its start; "models loaded" is
from the first request to the last answer. EvolQuality and UltraFeedback have prompts of their own in each library; ours
rates and explains within a frame, distilabel's model writes freely. Memory is that of the whole process tree, the most that
was seen in a look every {SAMPLING_PAUSE} s. The ratios count from ours: times as long, times slower per token with models
loaded, times the memory (below 1 distilabel needs less)."""

SIDE_BY_SIDE_READ = """\
distilabel runs one process per step and one prompt at a time. As installed, each process starts a thread per core and
its threads spin while they wait, so two models on two cores hold each other up."""

LIMITS = """\
Two operations per weight and token are counted: the body for each token read, the output layer where logits are computed.
Attention, norms and sampling are work that is not counted. The padded loop is left padding and Transformers' `generate`
on an unchanged model, with the same prompts and arguments; its last column sets more than 32 rows beside a loop that takes
32 at once. The batches in the first table are decoded whole; the second one shows those that `generate` makes, whose rows
end where the model ends them. Batches of one row wait for the weights to come from memory, large ones for the products.
"Plain" is what torch gives for `a @ b`, which takes MKL; the model uses oneDNN where that is faster, so shares of the plain
peak can pass 100%."""

LIMITS_READ = """\
What remains beside the products is attention, then many small operations between them. bfloat16 products are faster still,
but they change what is written, so float32 stays the default; `dtype="bfloat16"` asks for them."""

RECORDED = "[ideas.md](ideas.md) keeps what each idea was worth, how a run grows with its rows, and what a start costs."


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="none: only write the page")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before of these parts")
    options = parser.parse_args()
    results = default_results()
    if options.fresh:
        # Without a GPU its numbers could not be made again.
        results.forget([part for part in options.parts if part != "gpu" or torch.cuda.is_available()])
    if "distilabel" in options.parts:
        distilabel_side.measure(results)
    if "limits" in options.parts:
        limits.measure_here(results)
    if "gpu" in options.parts:
        measure_gpu(results)
    PAGE.write_text(page(results), encoding="utf-8")
    if results.left_out:
        print(
            "left out, of other code or another machine, or measured while others were busy:",
            *results.left_out,
            sep="\n  ",
        )
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
