"""A packaged model that takes seconds: a wheel with a random Llama of one layer as GGUF, for pip to find in a folder."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

WIDTH, LAYERS, HEADS = 32, 1, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_gguf(path: Path) -> Path:
    """https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, as far as Transformers reads it."""
    tokens = [*SPECIAL, *(chr(code) for code in range(33, 127)), "ab", "cd"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    for name, shape in tensor_shapes(len(tokens)).items():
        writer.add_tensor(name, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    square, wide = (WIDTH, WIDTH), (2 * WIDTH, WIDTH)
    shapes = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        block = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
        block |= {
            "attn_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            "ffn_gate": wide,
            "ffn_up": wide,
            "ffn_down": wide[::-1],
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def write_wheel(folder: Path) -> dict:
    """A wheel `tiny-gguf==1.0` in `folder`; what `Packaged` takes to describe it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = write_gguf(folder / "tiny.gguf").read_bytes()
    wheel = folder / "tiny_gguf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_gguf/tiny.gguf", content)
        archive.writestr(
            "tiny_gguf-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_gguf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_gguf-1.0.dist-info/RECORD", "")
    return {
        "wheels": ("tiny-gguf==1.0",),
        "member": "tiny.gguf",
        "size": wheel.stat().st_size,
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "none",
        "source": "made by a test",
    }
