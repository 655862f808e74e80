"""Against the limit: tokens per second beside the arithmetic peak and memory bandwidth of this machine, in one run.

    .venv/bin/python benchmarks/limits.py [--parts peak decoding padded scoring mixed profile] [--model smollm2-135m]

Peak shares count two operations per weight and token: the body for every token read, the output layer where logits are
computed. Attention, norms and sampling are work too but are not counted, so 100% cannot be reached.
"""

import argparse
import random
from collections import Counter
from functools import cache

import torch
from measuring import Results, seconds_of, table

from course_lib.llms import TransformersLLM
from course_lib.llms.decoding import Row, decode
from course_lib.llms.devices import batch_budget, filled_batches, most_nodes
from course_lib.llms.products import OneDnnLinear
from course_lib.llms.tree import Prefix, log_probs_of, tree_batches

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PADDED = (1, 8, 32, 64, 128)
LENGTHS = (32, 128, 512)
NEW_TOKENS = 64
SCORED_TOKENS = 4096
MIXED_ROWS, SHORTEST, LONGEST = 64, 8, 256
SAMPLING = {"temperature": 0.7, "top_p": 1.0, "top_k": 50, "min_p": 0.0, "repetition_penalty": 1.0}
PARTS = ("peak", "decoding", "padded", "scoring", "mixed", "profile")


# --- the machine --------------------------------------------------------------------------------------------------


def peak(dtype: str, device: str, size: int = 2048) -> dict:
    """GFLOP/s of a square product: PyTorch's own, and oneDNN's where the library uses that."""
    a, b = (torch.randn(size, size).to(device, getattr(torch, dtype)) for _ in range(2))
    ways = {"gflops": lambda: a @ b}
    if device == "cpu" and dtype == "float32":
        one_dnn = OneDnnLinear(size, size, bias=False)
        ways["gflops_onednn"] = lambda: one_dnn(a)
    with torch.inference_mode():
        timings = {name: seconds_of(_synchronised(way, device), repeat=20) for name, way in ways.items()}
    return {name: round(2 * size**3 / seconds / 1e9, 1) for name, seconds in timings.items()}


def bandwidth(device: str, floats: int = 2**27) -> dict:
    """GB/s of reading, from a sum over 512 MiB, far more than the caches hold."""
    numbers = torch.ones(floats, device=device)
    seconds = seconds_of(_synchronised(numbers.sum, device), repeat=10)
    return {"gigabytes": round(4 * floats / seconds / 1e9, 1)}


def _synchronised(compute, device: str):
    def run():
        compute()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


# --- decoding -----------------------------------------------------------------------------------------------------


def prompts(llm: TransformersLLM, count: int) -> list[list[int]]:
    """Token ids of `count` different instructions."""
    from course_lib.judging import labelled_items

    items = [*labelled_items("report"), *labelled_items("fit")]
    chats = [[{"role": "user", "content": item["instruction"]}] for item in items]
    texts = [*chats, *([*chat, {"role": "assistant", "content": "Well,"}] for chat in chats)]
    return [llm.prompts.encode(chat) for chat in texts[:count]]


def written(llm: TransformersLLM, asked: list[list[int]], wanted: list[int], most: int) -> list[Row]:
    """Rows that end after `wanted` tokens each, which nobody knows before; at most `most` tokens."""
    return [
        Row(tokens, key, most, lambda done, n=n: len(done) >= n)
        for key, (tokens, n) in enumerate(zip(asked, wanted, strict=True))
    ]


def decode_all(llm: TransformersLLM, rows: list[Row]) -> None:
    """Decode `rows` in the batches that `generate` makes of them."""
    sizes = {p: len(row.prompt) + row.limit for p, row in enumerate(rows)}
    for batch in filled_batches(sizes, *batch_budget(llm.hf_model)):
        decode(llm.hf_model, [rows[p] for p in batch], SAMPLING, set(), llm.prompts.pad, most_nodes(llm.hf_model))


def decoding(llm: TransformersLLM, batch: int) -> dict:
    """Seconds of one batch that writes `NEW_TOKENS` per row, and of its prefill with the first token."""
    asked = prompts(llm, batch)

    def timed(new: int) -> float:
        def run():
            rows = written(llm, asked, [new] * batch, new)
            decode(llm.hf_model, rows, SAMPLING, set(), llm.prompts.pad, most_nodes(llm.hf_model))

        return seconds_of(_synchronised(run, llm.hf_model.device.type))

    if batch <= 32:
        timed(2)
    return {"seconds": timed(NEW_TOKENS), "prefill": timed(1), "prompt_tokens": sum(map(len, asked))}


def padded(llm: TransformersLLM, batch: int) -> dict:
    """The same batch as one would write it by hand: left padding and Transformers' `generate`."""
    asked = prompts(llm, batch)
    padded_loop(llm, asked[:1], [2], 2, 1)
    run = lambda: padded_loop(llm, asked, [NEW_TOKENS] * batch, NEW_TOKENS, batch)  # noqa: E731
    return {"seconds": seconds_of(_synchronised(run, llm.hf_model.device.type))}


@cache
def plain_model(llm: TransformersLLM):
    """The model as `from_pretrained` gives it, without what `course_lib` changes."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llm.weights.folder, dtype=llm.hf_model.dtype, attn_implementation="sdpa")
    return model.to(llm.hf_model.device).eval()


def padded_loop(llm: TransformersLLM, asked: list[list[int]], wanted: list[int], most: int, batch: int) -> None:
    from transformers import StoppingCriteriaList

    tokenizer, model = llm.tokenizer, plain_model(llm)
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 50, "min_new_tokens": most, "max_new_tokens": most}
    for start in range(0, len(asked), batch):
        part, lengths = asked[start : start + batch], torch.tensor(wanted[start : start + batch])
        # `asked` is tokenized already, which favours this side: `generate` of ours pays for it elsewhere too.
        given = tokenizer.pad({"input_ids": part}, padding_side="left", return_tensors="pt").to(model.device)
        width = given["input_ids"].shape[1]
        stop = lambda ids, scores, n=lengths, w=width: (ids.shape[1] - w >= n).to(ids.device)  # noqa: E731
        with torch.inference_mode():
            model.generate(**given, **sampling, pad_token_id=llm.prompts.pad, stopping_criteria=StoppingCriteriaList([stop]))


def mixed(llm: TransformersLLM) -> dict:
    """`MIXED_ROWS` rows of 8 to 256 new tokens, ours and the padded loop at batch 32."""
    draw = random.Random(0)
    wanted = [draw.randint(SHORTEST, LONGEST) for _ in range(MIXED_ROWS)]
    asked = prompts(llm, MIXED_ROWS)
    kind = llm.hf_model.device.type
    ours = seconds_of(_synchronised(lambda: decode_all(llm, written(llm, asked, wanted, LONGEST)), kind))
    loop = seconds_of(_synchronised(lambda: padded_loop(llm, asked, wanted, LONGEST, 32), kind))
    return {"seconds": ours, "padded_seconds": loop, "tokens": sum(wanted)}


# --- scoring ------------------------------------------------------------------------------------------------------


def scoring(llm: TransformersLLM, length: int, every: bool) -> dict:
    """Seconds to score `SCORED_TOKENS` in rows of `length` that share nothing: each token, or the last one only."""
    draw = random.Random(length)
    size = llm.hf_model.config.get_text_config().vocab_size
    rows = {p: [draw.randrange(size) for _ in range(length)] for p in range(SCORED_TOKENS // length)}
    targets = {p: [(i, row[i + 1]) for i in range(length - 1)] if every else [(length - 2, row[-1])] for p, row in rows.items()}

    def run():
        for batch in tree_batches(rows, most_nodes(llm.hf_model)):
            log_probs_of(llm.hf_model, [rows[p] for p in batch], [targets[p] for p in batch], 2**12, Prefix())

    seconds = seconds_of(_synchronised(run, llm.hf_model.device.type))
    return {"seconds": seconds, "tokens": SCORED_TOKENS, "kept": sum(map(len, targets.values()))}


# --- where the time goes --------------------------------------------------------------------------------------------

KINDS = {
    "products with weights": ("addmm", "aten::mm", "linear", "mkl", "onednn", "_linear"),
    "attention": ("attention", "bmm", "baddbmm"),
    "moving data (cat, copy, index)": ("cat", "copy_", "index", "gather", "scatter", "clone", "contiguous", "fill_"),
    "sampling (top-k, softmax, noise)": ("topk", "softmax", "argmax", "exp", "log", "cumsum", "bitwise", "__rshift__", "isnan"),
}


def profile(llm: TransformersLLM, work: str, batch: int) -> dict:
    """Shares of the time that operations take by themselves, by kind; the rest lies between them."""
    from torch.profiler import ProfilerActivity, profile

    asked = prompts(llm, batch)
    rows = dict(enumerate(asked))

    def run():
        if work == "decoding":
            decode_all(llm, written(llm, asked, [16] * batch, 16))
        else:
            for part in tree_batches(rows, most_nodes(llm.hf_model)):
                targets = [[(i, rows[p][i + 1]) for i in range(len(rows[p]) - 1)] for p in part]
                log_probs_of(llm.hf_model, [rows[p] for p in part], targets, 2**12, Prefix())

    run()
    on_gpu = llm.hf_model.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        seconds = seconds_of(_synchronised(run, llm.hf_model.device.type))
    shares: Counter = Counter()
    for event in found.key_averages():
        kind = next((k for k, marks in KINDS.items() if any(mark in event.key for mark in marks)), "other operations")
        shares[kind] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    shares["between operations (Python, the profiler)"] = max(0.0, seconds - sum(shares.values()))
    return {kind: round(value / seconds, 3) for kind, value in shares.most_common()}


# --- tables -------------------------------------------------------------------------------------------------------


def sizes(llm: TransformersLLM) -> tuple[int, int]:
    """Weights of the body, embeddings apart, and of the output layer."""
    model = llm.hf_model
    embedded, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    total = sum(p.numel() for p in model.parameters())
    return total - embedded.numel() - (0 if head is embedded else head.numel()), head.numel()


def measure(results: Results, llm: TransformersLLM, parts=PARTS, label: str = "limits") -> None:
    device, dtype = llm.hf_model.device.type, str(llm.hf_model.dtype).removeprefix("torch.")
    body, head = sizes(llm)
    results.put(label, "model", {"name": llm.model_name, "body": body, "head": head, "dtype": dtype, "device": device})
    if "peak" in parts:
        for name in ("float32", "bfloat16"):
            results.measure(label, f"peak {name}", lambda name=name: peak(name, device))
        results.measure(label, "bandwidth", lambda: bandwidth(device))
    for batch in BATCHES if "decoding" in parts else ():
        results.measure(label, f"decoding {batch}", lambda batch=batch: decoding(llm, batch))
    for batch in PADDED if "padded" in parts else ():
        results.measure(label, f"padded {batch}", lambda batch=batch: padded(llm, batch))
    for length in LENGTHS if "scoring" in parts else ():
        for every in (True, False):
            name = f"scoring {length} {'every' if every else 'last'}"
            results.measure(label, name, lambda length=length, every=every: scoring(llm, length, every))
    if "mixed" in parts:
        results.measure(label, "mixed", lambda: mixed(llm))
    for work in ("decoding", "scoring") if "profile" in parts else ():
        results.measure(label, f"profile {work}", lambda work=work: profile(llm, work, 64))


def measure_here(results: Results) -> None:
    """All parts on this machine with smollm2-135m, and on a CPU once more in bfloat16 what differs there."""
    llm = TransformersLLM("smollm2-135m", use_cache=False)
    measure(results, llm)
    on_cpu = llm.hf_model.device.type == "cpu"
    llm.unload()
    if on_cpu:
        half = TransformersLLM("smollm2-135m", use_cache=False, dtype="bfloat16")
        measure(results, half, ("peak", "decoding", "scoring"), "limits bfloat16")


def report(results: Results, label: str = "limits") -> str:
    """The tables, as Markdown."""
    found = results[label]
    if "model" not in found or f"peak {found['model']['dtype']}" not in found:
        return "Still to be measured on a quiet machine."
    model, measured = found["model"], found[f"peak {found['model']['dtype']}"]
    tops = {"of the plain peak": 1e9 * measured["gflops"]}
    if "gflops_onednn" in measured:
        tops["of oneDNN's peak"] = 1e9 * measured["gflops_onednn"]
    intro = (
        f"{model['name']}, {model['dtype']}, {model['device']}: {model['body'] / 1e6:.0f} million weights in the body, "
        f"{model['head'] / 1e6:.0f} million in the output layer. Measured in the same run: {_peak_words(found)}."
    )
    tables = [
        _decoding_table(found, tops, model),
        _scoring_table(found, tops, model),
        _mixed_line(found),
        _profile_table(found),
    ]
    return "\n\n".join(part for part in (intro, *tables) if part)


def _peak_words(found: dict) -> str:
    words = []
    for dtype in ("float32", "bfloat16"):
        one = found.get(f"peak {dtype}", {})
        words += [f"{one['gflops']:.0f} GFLOP/s for a plain 2048³ product in {dtype}"] if one else []
        words += [f"{one['gflops_onednn']:.0f} through oneDNN"] if "gflops_onednn" in one else []
    return "; ".join([*words, f"{found['bandwidth']['gigabytes']:.0f} GB/s of reading"])


def _decoding_table(found: dict, tops: dict[str, float], model: dict) -> str:
    weights, lines = model["body"] + model["head"], []
    for batch in BATCHES:
        if one := found.get(f"decoding {batch}"):
            steps = batch * (NEW_TOKENS - 1) / (one["seconds"] - one["prefill"])
            shares = [f"{2 * weights * steps / top:.0%}" for top in tops.values()]
            read = steps / batch * weights * (4 if model["dtype"] == "float32" else 2) / 1e9
            line = [batch, f"{batch * NEW_TOKENS / one['seconds']:.0f}", f"{steps:.0f}", *shares, f"{read:.0f}"]
            if loop := found.get(f"padded {batch}"):
                line += [f"{batch * NEW_TOKENS / loop['seconds']:.0f}", f"{loop['seconds'] / one['seconds']:.2f}"]
            lines.append(line + [""] * (len(tops) + 6 - len(line)))
    pace = ["tokens/s", "tokens/s after the prefill", *tops, "weights read, GB/s"]
    return table(["batch", *pace, "padded loop, tokens/s", "ours / padded loop"], lines) if lines else ""


def _scoring_table(found: dict, tops: dict[str, float], model: dict) -> str:
    lines = []
    for length in LENGTHS:
        for which in ("every", "last"):
            if one := found.get(f"scoring {length} {which}"):
                work = 2 * (model["body"] * one["tokens"] + model["head"] * one["kept"]) / one["seconds"]
                shares = [f"{work / top:.0%}" for top in tops.values()]
                lines.append([length, f"{which} token", f"{one['tokens'] / one['seconds']:.0f}", *shares])
    return table(["tokens in a row", "scored", "tokens/s", *tops], lines) if lines else ""


def _mixed_line(found: dict) -> str:
    if not (one := found.get("mixed")):
        return ""
    return (
        f"Rows of very different lengths ({MIXED_ROWS} rows of {SHORTEST} to {LONGEST} new tokens, {one['tokens']} in all): "
        f"{one['seconds']:.1f} s, the padded loop at batch 32 {one['padded_seconds']:.1f} s: "
        f"{one['padded_seconds'] / one['seconds']:.2f} times as fast."
    )


def _profile_table(found: dict) -> str:
    columns = {work: found.get(f"profile {work}") for work in ("decoding", "scoring")}
    if not all(columns.values()):
        return ""
    kinds = [kind for kind in columns["decoding"] if kind != "others"]
    lines = [[kind, *(f"{one.get(kind, 0):.0%}" for one in columns.values())] for kind in kinds]
    return table(["share of the time, 64 rows", *columns], lines)


def main() -> None:
    from speed import default_results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--label", default="limits", help="under which name the numbers are kept")
    options = parser.parse_args()
    results = default_results()
    measure(results, TransformersLLM(options.model, use_cache=False), options.parts, options.label)
    print(report(results, options.label))


if __name__ == "__main__":
    main()
