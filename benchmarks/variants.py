"""What the ideas for speed are worth: each shipped way beside the way without it, on this machine.

    .venv/bin/python benchmarks/variants.py

The ways of one idea run in turns, so that a machine that slows down slows all of them; the shortest time of each counts.
Few rows and few tokens: the whole takes some minutes on two cores.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
from limits import SAMPLING, chats, prompts, written
from measuring import Results, seconds_of, table
from torch import nn
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper

from course_lib.judging import labelled_items
from course_lib.llms import TransformersLLM, decoding, devices, tree
from course_lib.llms.devices import most_nodes
from course_lib.llms.products import OneDnnLinear
from course_lib.steps.tasks import UltraFeedback
from course_lib.steps.tasks.likelihood import reward_head

ROUNDS = 3
NEW_TOKENS = 16
ROWS = 64
SHORTEST, LONGEST = 8, 64  # new tokens of rows that end at different lengths
SAME = 0.03  # a difference below this is no difference
Ways = dict[str, Callable[[], None]]
NOT_TRIED = {
    "refilling a batch with new rows while it runs": (
        "which rows share a batch would depend on how long others became, and a run that was killed must compute the same "
        "batches again; finished rows leave instead."
    ),
    "a static cache with `torch.compile`": "on a CPU it needs a C++ compiler, which a learner may not have; on a GPU, still to "
    "be tried.",
}


def in_turns(ways: Ways, rounds: int = ROUNDS) -> dict[str, float]:
    """The shortest seconds of each way, all of them run `rounds` times in turns."""
    timings: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        # Back and forth, so that none always follows the same one.
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            timings[name].append(seconds_of(ways[name]))
    return {name: round(min(taken), 4) for name, taken in timings.items()}


def under(compute: Callable[[], None], *patches) -> Callable[[], None]:
    """`compute` with `patches` in place while it runs."""

    def run():
        with ExitStack() as stack:
            for one in patches:
                stack.enter_context(one)
            compute()

    return run


# --- what runs ----------------------------------------------------------------------------------------------------------


def decoded(llm: TransformersLLM, rows: int = ROWS, wanted: list[int] | None = None, new: int = NEW_TOKENS) -> None:
    """One batch of `rows` that write `wanted` tokens each, or `new` all of them."""
    asked = prompts(llm, rows)
    batch = written(llm, asked, wanted or [new] * rows, max(wanted or [new]))
    # Looked up here, where a variant may stand.
    decoding.decode(llm.hf_model, batch, SAMPLING, set(), llm.prompts.pad, most_nodes(llm.hf_model))


def prefilled(llm: TransformersLLM) -> None:
    tree.prefill(llm.hf_model, prompts(llm, ROWS), most_nodes(llm.hf_model))


def judged(llm: TransformersLLM) -> None:
    items = labelled_items("report")[: ROWS // 8]
    rows = [{"instruction": item["instruction"], "generations": [item["good"], item["worse"]]} for item in items]
    list(UltraFeedback(llm=llm, mode="logits").process(rows))


def scored(llm: TransformersLLM) -> None:
    items = labelled_items("report")[: ROWS // 2]
    llm.token_log_probs(chats(len(items)), [item["good"] for item in items])


# --- ideas; the first way of each is the shipped one ----------------------------------------------------------------------


def products(llm: TransformersLLM, rows: int) -> Ways:
    layers = [module for module in llm.hf_model.modules() if isinstance(module, OneDnnLinear)]
    copies = [layer._packed for layer in layers]

    def way(kind: type, packed: bool) -> Callable[[], None]:
        def run():
            for layer, copy in zip(layers, copies, strict=True):
                layer.__class__, layer._packed = kind, copy if packed else None
            decoded(llm, rows)
            for layer, copy in zip(layers, copies, strict=True):
                layer.__class__, layer._packed = OneDnnLinear, copy

        return run

    if not any(copies):
        return {}
    return {
        "oneDNN, packed": way(OneDnnLinear, True),
        "oneDNN, not packed": way(OneDnnLinear, False),
        "PyTorch's own": way(nn.Linear, False),
    }


def compaction(llm: TransformersLLM) -> Ways:
    rows = ROWS // 2
    wanted = [SHORTEST + (LONGEST - SHORTEST) * i // (rows - 1) for i in range(rows)]
    return {
        "finished rows leave": lambda: decoded(llm, rows, wanted),
        # A batch that does not shrink computes what it would compute if all its rows were as long.
        "finished rows stay": lambda: decoded(llm, rows, [LONGEST] * rows),
    }


def last_position(llm: TransformersLLM) -> Ways:
    def logits(model, given, kept, cache, *piece):
        return tree.finite(tree._forward(model, given, cache, *piece).logits[0][kept].float())

    run = lambda: prefilled(llm)  # noqa: E731
    return {"logits of the last position": run, "of all positions": under(run, patch.object(tree, "_logits", logits))}


def prefix(llm: TransformersLLM) -> Ways:
    run = lambda: judged(llm)  # noqa: E731
    without = patch.object(tree, "shared_length", lambda rows, most: 0)
    return {"what all prompts share read once": run, "once per tree": under(run, without)}


def packing(llm: TransformersLLM) -> Ways:
    run = lambda: scored(llm)  # noqa: E731
    alone = patch.object(tree, "tree_batches", lambda rows, most: [[p] for p in rows])
    return {"rows packed into trees": run, "a row per forward pass": under(run, alone)}


def tree_sizes(llm: TransformersLLM) -> Ways:
    run = lambda: scored(llm)  # noqa: E731
    others = {f"at most {size}": under(run, patch.object(devices, "CPU_NODES", size)) for size in (128, 512)}
    return {f"at most {devices.CPU_NODES} tokens in a tree": run, **others}


def layers_read(llm: TransformersLLM) -> Ways:
    items = labelled_items("report")[: ROWS // 2]
    head = reward_head(llm.model_name)

    def all_layers(model, nodes, layers, prefix):
        kept = torch.tensor([0])
        out = tree._forward(model, nodes, prefix.cache(), prefix.length, logits_to_keep=kept, output_hidden_states=True)
        return [out.hidden_states[number] for number in layers]

    run = lambda: llm.head_scores(chats(len(items)), [item["good"] for item in items], head)  # noqa: E731
    return {f"{max(head.layers)} layers": run, "all layers": under(run, patch.object(tree, "_states_after", all_layers))}


def by_length(llm: TransformersLLM) -> Ways:
    asked, size = chats(ROWS), ROWS // 4

    def cut(sizes, most_rows, most_tokens):
        todo = list(sizes)
        return [todo[i : i + most_rows] for i in range(0, len(todo), most_rows)]

    run = under(lambda: llm.generate(asked, max_new_tokens=NEW_TOKENS), patch.object(devices, "CPU_ROWS", size))
    as_given = under(run, patch("course_lib.llms.transformers.filled_batches", cut))
    return {f"batches of {size} by length": run, "in the order given": as_given}


def chosen_by_processors(logits, keys, position, arguments):
    """What `choose_tokens` does, as Transformers' `generate` does it."""
    processors = [TemperatureLogitsWarper(arguments["temperature"]), TopKLogitsWarper(arguments["top_k"])]
    scores = LogitsProcessorList(processors)(None, logits)
    return torch.multinomial(scores.softmax(-1), 1).squeeze(1)


def sampling(llm: TransformersLLM) -> Ways:
    run = lambda: decoded(llm)  # noqa: E731
    theirs = patch.object(decoding, "choose_tokens", chosen_by_processors)
    return {"noise on the 50 best": run, "Transformers' processors on the vocabulary": under(run, theirs)}


def sampling_alone(llm: TransformersLLM) -> Ways:
    logits = torch.randn(ROWS, llm.hf_model.config.get_text_config().vocab_size, device=llm.hf_model.device)
    keys = torch.arange(ROWS, device=llm.hf_model.device)

    def way(choose) -> Callable[[], None]:
        def run():
            with torch.inference_mode():
                for position in range(NEW_TOKENS):
                    choose(logits, keys, position, SAMPLING)

        return run

    return {
        "noise on the 50 best": way(decoding.choose_tokens),
        "Transformers' processors on the vocabulary": way(chosen_by_processors),
    }


def no_gradients(llm: TransformersLLM, rows: int) -> Ways:
    without = [patch.object(decoding, name, getattr(decoding, name).__wrapped__) for name in ("decode", "prefill")]
    run = lambda: decoded(llm, rows)  # noqa: E731
    return {"`inference_mode`": run, "`no_grad`": under(run, torch.no_grad(), *without)}


IDEAS: dict[str, Callable[[TransformersLLM], Ways]] = {
    **{f"products, batch {rows}": lambda llm, rows=rows: products(llm, rows) for rows in (1, 16, ROWS)},
    f"compaction, {ROWS // 2} rows of {SHORTEST} to {LONGEST} tokens": compaction,
    f"order of rows, {ROWS} prompts": by_length,
    f"output layer, reading {ROWS} prompts": last_position,
    f"shared beginning, {ROWS // 4} judge prompts": prefix,
    f"scoring {ROWS // 2} completions": packing,
    f"trees, scoring {ROWS // 2} completions": tree_sizes,
    f"reward head on {ROWS // 2} completions": layers_read,
    f"sampling, batch {ROWS}": sampling,
    f"sampling alone, batch {ROWS}": sampling_alone,
    **{f"no gradients, batch {rows}": lambda llm, rows=rows: no_gradients(llm, rows) for rows in (1, 16)},
}


# --- the table ------------------------------------------------------------------------------------------------------------


def measure(results: Results) -> None:
    llm = TransformersLLM("smollm2-135m", use_cache=False)
    decoded(llm, 2, new=2)
    for name, idea in IDEAS.items():
        ways = idea(llm)
        if len(ways) > 1:
            results.measure("variants", name, lambda ways=ways: {"ways": in_turns(ways)})
    llm.unload()


def report(results: Results) -> str:
    """The table, as Markdown."""
    lines = []
    for name in IDEAS:
        if one := results["variants"].get(name):
            (shipped, base), *others = one["ways"].items()
            lines += [[name, shipped, f"{base:.2f}", other, *_verdict(taken / base)] for other, taken in others]
    if not lines:
        return "Still to be measured on a quiet machine."
    lines += [[idea, "no", "", "", "", f"not tried: {why}"] for idea, why in NOT_TRIED.items()]
    return table(["idea", "kept", "s", "beside", "time beside / kept", "so what is kept is"], lines)


def _verdict(ratio: float) -> list[str]:
    if abs(ratio - 1) < SAME:
        return [f"{ratio:.2f}", "as fast"]
    return [f"{ratio:.2f}", "faster" if ratio > 1 else "**slower**"]


def main() -> None:
    from speed import default_results

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results = default_results()
    measure(results)
    print(report(results))


if __name__ == "__main__":
    main()
