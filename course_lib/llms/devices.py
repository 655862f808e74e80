"""What a device can do: where to compute, in which numbers, and how much at once."""

import json

from course_lib.memory import memory_ran_out

MOST_ROWS = 256
CPU_ROWS, CPU_TOKENS = 64, 16_384
CPU_NODES, GPU_NODES = 256, 4096


def best_device() -> str:
    """cuda, mps or cpu: the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str, folder) -> str:
    """float32 on a CPU; bfloat16 where a GPU has it; else float16, but float32 for Gemma, which overflows it."""
    import torch

    if not device.startswith(("cuda", "mps")):
        return "float32"
    # `is_bf16_supported` also says yes where it is only emulated; compute capability 8 has it in hardware.
    if device.startswith("cuda") and torch.cuda.get_device_capability(device)[0] >= 8:
        return "bfloat16"
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    return "float32" if family.startswith("gemma") else "float16"


def batch_budget(model) -> tuple[int, int]:
    """Most rows, and most tokens (prompt, completion, padding), that one batch of `model` may hold."""
    if model.device.type != "cuda":
        return CPU_ROWS, CPU_TOKENS
    import torch

    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * heads * head * model.dtype.itemsize
    # The cache is copied once as it grows, and logits and activations need room beside it.
    tokens = int(torch.cuda.mem_get_info(model.device)[0] * 0.25 / bytes_per_token)
    return MOST_ROWS, max(4096, tokens)


def most_nodes(model) -> int:
    """Most tokens in one forward pass over a tree: its attention grows with the square of them."""
    return GPU_NODES if model.device.type == "cuda" else CPU_NODES


def out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may help."""
    return memory_ran_out(error) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def filled_batches(sizes: dict[int, int], most_rows: int, most_tokens: int) -> list[list[int]]:
    """Positions in batches, longest first, each of at most `most_rows`, and `most_tokens` with the padding."""
    batches: list[list[int]] = []
    for position in sorted(sizes, key=lambda p: (-sizes[p], p)):
        if batches and len(batches[-1]) < min(most_rows, most_tokens // sizes[batches[-1][0]]):
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def finite(scores):
    """`scores`, or an error if one of them is NaN."""
    if scores.isnan().any():
        raise FloatingPointError(
            "The model gave NaN instead of scores; its numbers are too large for this dtype. Use dtype='float32'."
        )
    return scores
