"""Against the limit: tokens per second beside the arithmetic peak and memory bandwidth of this machine, in one run.

    .venv/bin/python benchmarks/limits.py [--parts peak decoding padded generate scoring mixed profile] [--model smollm2-135m]

Peak shares count two operations per weight and token: the body for every token read, the output layer where logits are
computed. Attention, norms and sampling are work too but are not counted, so 100% cannot be reached.
"""

import argparse
import random
from collections import Counter
from functools import cache
from unittest.mock import patch

import torch
from measuring import Results, default_results, forget_peak, peak_memory, seconds_of, table, target

from course_lib.llms import TransformersLLM, devices
from course_lib.llms.decoding import Row, decode
from course_lib.llms.devices import batch_budget, filled_batches, most_nodes
from course_lib.llms.products import OneDnnLinear
from course_lib.llms.tree import log_probs_of, read_prefix, tree_batches

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOOP = 32  # rows at once of the padded loop to compare with
GENERATED, CAPS = 256, (64, 128, 256)  # rows asked of `generate`, and how many it may take at once on a CPU
LENGTHS = (32, 128, 512)
NEW_TOKENS = 64
SCORED_TOKENS = 4096
MIXED_ROWS, SHORTEST, LONGEST = 64, 8, 256
SAMPLING = {"temperature": 0.7, "top_p": 1.0, "top_k": 50, "min_p": 0.0, "repetition_penalty": 1.0}
PARTS = ("peak", "decoding", "padded", "generate", "scoring", "mixed", "profile")


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


def chats(count: int) -> list[list[dict[str, str]]]:
    """`count` different instructions."""
    from course_lib.judging import labelled_items

    items = [*labelled_items("report"), *labelled_items("fit")]
    asked = [[{"role": "user", "content": item["instruction"]}] for item in items]
    return [*asked, *([*chat, {"role": "assistant", "content": "Well,"}] for chat in asked)][:count]


def prompts(llm: TransformersLLM, count: int) -> list[list[int]]:
    """Token ids of `count` different instructions."""
    return [llm.prompts.encode(chat) for chat in chats(count)]


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
        decode(llm.hf_model, [rows[p] for p in batch], SAMPLING, set(), most_nodes(llm.hf_model))


def decoding(llm: TransformersLLM, batch: int) -> dict:
    """Seconds of one batch that writes `NEW_TOKENS` per row, and of its prefill with the first token."""
    asked = prompts(llm, batch)

    def timed(new: int) -> float:
        def run():
            rows = written(llm, asked, [new] * batch, new)
            decode(llm.hf_model, rows, SAMPLING, set(), most_nodes(llm.hf_model))

        return seconds_of(_synchronised(run, llm.hf_model.device.type))

    if batch <= 32:
        timed(2)
    return {"seconds": timed(NEW_TOKENS), "prefill": timed(1), "prompt_tokens": sum(map(len, asked))}


def generated(llm: TransformersLLM, cap: int, count: int = GENERATED, new: int = NEW_TOKENS) -> dict:
    """`generate` with `count` chats, in batches of at most `cap` rows; rows end where the model ends them."""
    sizes = []

    def noted(*arguments):
        batches = filled_batches(*arguments)
        sizes[:] = map(len, batches)
        return batches

    # The bound on tokens would keep batches small where the one on rows no longer does.
    caps = {"CPU_ROWS": cap, "CPU_TOKENS": devices.CPU_TOKENS * cap // devices.CPU_ROWS}
    with patch.multiple(devices, **caps), patch("course_lib.llms.transformers.filled_batches", noted):
        llm.generate(chats(2), max_new_tokens=2)
        forget_peak()
        found = []
        seconds = seconds_of(lambda: found.extend(llm.generate(chats(count), max_new_tokens=new)))
    tokens = sum(sum(one["statistics"]["output_tokens"]) for one in found)
    return {"seconds": seconds, "tokens": tokens, "batches": sizes, "peak_bytes": peak_memory()}


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

    model = AutoModelForCausalLM.from_pretrained(
        llm.weights.folder, dtype=llm.hf_model.dtype, attn_implementation="sdpa"
    )
    return model.to(llm.hf_model.device).eval()


def padded_loop(
    llm: TransformersLLM, asked: list[list[int]], wanted: list[int], most: int, batch: int
) -> None:
    from transformers import StoppingCriteriaList

    tokenizer, model = llm.tokenizer, plain_model(llm)
    sampling = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 50,
        "min_new_tokens": most,
        "max_new_tokens": most,
    }
    for start in range(0, len(asked), batch):
        part, lengths = asked[start : start + batch], torch.tensor(wanted[start : start + batch])
        # `asked` is tokenized already, which favours this side: `generate` of ours pays for it elsewhere too.
        given = tokenizer.pad({"input_ids": part}, padding_side="left", return_tensors="pt").to(model.device)
        width = given["input_ids"].shape[1]
        stop = lambda ids, scores, n=lengths, w=width: (ids.shape[1] - w >= n).to(ids.device)  # noqa: E731
        with torch.inference_mode():
            model.generate(
                **given,
                **sampling,
                pad_token_id=llm.tokenizer.pad_token_id or 0,
                stopping_criteria=StoppingCriteriaList([stop]),
            )


def mixed(llm: TransformersLLM) -> dict:
    """`MIXED_ROWS` rows of 8 to 256 new tokens, ours and the padded loop at batch 32."""
    draw = random.Random(0)
    wanted = [draw.randint(SHORTEST, LONGEST) for _ in range(MIXED_ROWS)]
    asked = prompts(llm, MIXED_ROWS)
    kind = llm.hf_model.device.type
    ours = seconds_of(_synchronised(lambda: decode_all(llm, written(llm, asked, wanted, LONGEST)), kind))
    loop = seconds_of(_synchronised(lambda: padded_loop(llm, asked, wanted, LONGEST, LOOP), kind))
    return {"seconds": ours, "padded_seconds": loop, "tokens": sum(wanted)}


# --- scoring ------------------------------------------------------------------------------------------------------


def scoring(llm: TransformersLLM, length: int, every: bool) -> dict:
    """Seconds to score `SCORED_TOKENS` in rows of `length` that share nothing: each token, or the last one only."""
    draw = random.Random(length)
    size = llm.hf_model.config.get_text_config().vocab_size
    rows = {p: [draw.randrange(size) for _ in range(length)] for p in range(SCORED_TOKENS // length)}
    targets = {
        p: [(i, row[i + 1]) for i in range(length - 1)] if every else [(length - 2, row[-1])]
        for p, row in rows.items()
    }

    def run():
        for batch in tree_batches(rows, most_nodes(llm.hf_model)):
            log_probs_of(
                llm.hf_model,
                [rows[p] for p in batch],
                [targets[p] for p in batch],
                read_prefix(llm.hf_model, []),
            )

    seconds = seconds_of(_synchronised(run, llm.hf_model.device.type))
    return {"seconds": seconds, "tokens": SCORED_TOKENS, "kept": sum(map(len, targets.values()))}


# --- where the time goes --------------------------------------------------------------------------------------------

KINDS = {
    "products with weights": ("addmm", "aten::mm", "linear", "mkl", "onednn", "_linear"),
    "attention": ("attention", "bmm", "baddbmm"),
    "moving data (cat, copy, index)": (
        "cat",
        "copy_",
        "index",
        "gather",
        "scatter",
        "clone",
        "contiguous",
        "fill_",
    ),
    "sampling (top-k, softmax, noise)": (
        "topk",
        "softmax",
        "argmax",
        "exp",
        "log",
        "cumsum",
        "bitwise",
        "__rshift__",
        "isnan",
    ),
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
                log_probs_of(llm.hf_model, [rows[p] for p in part], targets, read_prefix(llm.hf_model, []))

    run()
    on_gpu = llm.hf_model.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        seconds = seconds_of(_synchronised(run, llm.hf_model.device.type))
    shares: Counter = Counter()
    for event in found.key_averages():
        kind = next(
            (k for k, marks in KINDS.items() if any(mark in event.key for mark in marks)), "other operations"
        )
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
    results.put(
        label, "model", {"name": llm.model_name, "body": body, "head": head, "dtype": dtype, "device": device}
    )
    if "peak" in parts:
        for name in ("float32", "bfloat16"):
            results.measure(label, f"peak {name}", lambda name=name: peak(name, device))
        results.measure(label, "bandwidth", lambda: bandwidth(device))
    for batch in BATCHES if "decoding" in parts else ():
        results.measure(label, f"decoding {batch}", lambda batch=batch: decoding(llm, batch))
    for batch in BATCHES if "padded" in parts else ():
        results.measure(label, f"padded {batch}", lambda batch=batch: padded(llm, batch))
    for cap in CAPS if "generate" in parts and device == "cpu" else ():
        results.measure(label, f"generate {cap}", lambda cap=cap: generated(llm, cap))
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
    if not _known(found):
        return "Still to be measured on a quiet machine."
    model, tops = found["model"], _tops(found)
    intro = (
        f"{model['name']}, {model['dtype']}, {model['device']}: {model['body'] / 1e6:.0f} million weights in the body, "
        f"{model['head'] / 1e6:.0f} million in the output layer. Measured in the same run: {_peak_words(found)}."
    )
    tables = [
        _decoding_table(found, tops, model),
        _generate_table(found),
        _scoring_table(found, tops, model),
        _mixed_line(found),
        _profile_table(found),
    ]
    return "\n\n".join(part for part in (intro, *tables) if part)


def _known(found: dict) -> bool:
    return (
        all(name in found for name in ("model", "bandwidth")) and f"peak {found['model']['dtype']}" in found
    )


def _tops(found: dict) -> dict[str, float]:
    """Operations per second that products of matrices reach here, by the way to compute them."""
    measured = found[f"peak {found['model']['dtype']}"]
    names = {"gflops": "of the plain peak", "gflops_onednn": "of oneDNN's peak"}
    return {words: 1e9 * measured[name] for name, words in names.items() if name in measured}


def targets(results: Results, label: str = "limits") -> list[list[str]]:
    found = results[label]
    if not _known(found):
        return []
    model, lines = found["model"], []
    decoded = {batch: _steps(found, batch) for batch in BATCHES if f"decoding {batch}" in found}
    scored = [_scoring_work(one, model) for name, one in found.items() if name.startswith("scoring")]
    for words, top in _tops(found).items():
        if decoded:
            best = max(decoded, key=decoded.get)
            share = _decoding_work(decoded[best], model) / top
            lines.append(
                target(f"decoding, best batch ({best})", f"40% {words}", f"{share:.0%}", share >= 0.4)
            )
        if scored:
            low, high = min(scored) / top, max(scored) / top
            lines.append(target("scoring", f"60% {words}", f"{low:.0%} to {high:.0%}", low >= 0.6))
    ratios = {batch: ratio for batch in BATCHES if (ratio := _beside_loop(found, batch, min(batch, LOOP)))}
    if ratios:
        worst = min(ratios, key=ratios.get)
        what = (
            f"beside the padded loop with at most {LOOP} rows, worst of batches {', '.join(map(str, ratios))}"
        )
        lines.append(
            target(what, "no slower", f"{ratios[worst]:.2f} × as fast (batch {worst})", ratios[worst] >= 1)
        )
    if one := found.get("mixed"):
        ratio = one["padded_seconds"] / one["seconds"]
        lines.append(
            target("rows of very different lengths", "1.5 × the padded loop", f"{ratio:.2f} ×", ratio >= 1.5)
        )
    return lines


def _peak_words(found: dict) -> str:
    words = []
    for dtype in ("float32", "bfloat16"):
        one = found.get(f"peak {dtype}", {})
        words += [f"{one['gflops']:.0f} GFLOP/s for a plain 2048³ product in {dtype}"] if one else []
        words += [f"{one['gflops_onednn']:.0f} through oneDNN"] if "gflops_onednn" in one else []
    return "; ".join([*words, f"{found['bandwidth']['gigabytes']:.0f} GB/s of reading"])


def _pace(found: dict, name: str, batch: int) -> float | None:
    """Tokens per second of a measurement with `batch` rows."""
    return batch * NEW_TOKENS / found[f"{name} {batch}"]["seconds"] if f"{name} {batch}" in found else None


def _beside_loop(found: dict, batch: int, rows: int) -> float | None:
    """Our tokens per second with `batch` rows, in those of the padded loop with `rows` at once."""
    ours, loop = _pace(found, "decoding", batch), _pace(found, "padded", rows)
    return ours / loop if ours and loop else None


def _steps(found: dict, batch: int) -> float:
    """Tokens per second after the prefill."""
    one = found[f"decoding {batch}"]
    return batch * (NEW_TOKENS - 1) / (one["seconds"] - one["prefill"])


def _decoding_work(steps: float, model: dict) -> float:
    return 2 * (model["body"] + model["head"]) * steps


def _scoring_work(one: dict, model: dict) -> float:
    return 2 * (model["body"] * one["tokens"] + model["head"] * one["kept"]) / one["seconds"]


def _decoding_table(found: dict, tops: dict[str, float], model: dict) -> str:
    weights, lines = model["body"] + model["head"], []
    with_loop = any(name.startswith("padded") for name in found)
    for batch in BATCHES:
        if ours := _pace(found, "decoding", batch):
            steps = _steps(found, batch)
            shares = [f"{_decoding_work(steps, model) / top:.0%}" for top in tops.values()]
            read = steps / batch * weights * (4 if model["dtype"] == "float32" else 2) / 1e9
            beside = [
                _pace(found, "padded", batch),
                *(_beside_loop(found, batch, n) for n in (batch, min(batch, LOOP))),
            ]
            texts = [
                f"{one:.{digits}f}" if one else "" for one, digits in zip(beside, (0, 2, 2), strict=True)
            ]
            lines.append(
                [batch, f"{ours:.0f}", f"{steps:.0f}", *shares, f"{read:.0f}", *(texts if with_loop else ())]
            )
    head = ["batch", "tokens/s", "tokens/s after the prefill", *tops, "weights read, GB/s"]
    loop = ["padded loop, tokens/s", "ours / padded loop", f"ours / padded loop, at most {LOOP} rows at once"]
    return table([*head, *(loop if with_loop else ())], lines) if lines else ""


def _generate_table(found: dict) -> str:
    lines = []
    for cap in CAPS:
        if one := found.get(f"generate {cap}"):
            name = f"{cap}, as shipped" if cap == devices.CPU_ROWS else cap
            pace, peak = f"{one['tokens'] / one['seconds']:.0f}", f"{one['peak_bytes'] / 1e6:.0f}"
            lines.append([name, " + ".join(map(str, one["batches"])), one["tokens"], pace, peak])
    head = [
        f"most rows at once when `generate` is given {GENERATED}",
        "batches",
        "tokens",
        "tokens/s",
        "peak memory, MB",
    ]
    return table(head, lines) if lines else ""


def _scoring_table(found: dict, tops: dict[str, float], model: dict) -> str:
    lines = []
    for length in LENGTHS:
        for which in ("every", "last"):
            if one := found.get(f"scoring {length} {which}"):
                shares = [f"{_scoring_work(one, model) / top:.0%}" for top in tops.values()]
                lines.append([length, f"{which} token", f"{one['tokens'] / one['seconds']:.0f}", *shares])
    return table(["tokens in a row", "scored", "tokens/s", *tops], lines) if lines else ""


def _mixed_line(found: dict) -> str:
    if not (one := found.get("mixed")):
        return ""
    return (
        f"Rows of very different lengths ({MIXED_ROWS} rows of {SHORTEST} to {LONGEST} new tokens, {one['tokens']} in all): "
        f"{one['seconds']:.1f} s, the padded loop at batch {LOOP} {one['padded_seconds']:.1f} s: "
        f"{one['padded_seconds'] / one['seconds']:.2f} times as fast."
    )


def _profile_table(found: dict) -> str:
    columns = {work: found.get(f"profile {work}") for work in ("decoding", "scoring")}
    if not all(columns.values()):
        return ""
    kinds = [
        kind for kind, share in columns["decoding"].items() if isinstance(share, float) and kind != "others"
    ]
    lines = [[kind, *(f"{one.get(kind, 0):.0%}" for one in columns.values())] for kind in kinds]
    return table(["share of the time, 64 rows", *columns], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--label", default="limits", help="under which name the numbers are kept")
    options = parser.parse_args()
    results = default_results()
    measure(results, TransformersLLM(options.model, use_cache=False), options.parts, options.label)
    print(report(results, options.label))


if __name__ == "__main__":
    main()
