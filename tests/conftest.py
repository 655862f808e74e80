"""What all tests share: no network, a results folder of their own, and a tiny model."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from course_lib.paths import cache_folder  # noqa: E402

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Begins a program that kills itself before `function` ("os.rename") is called for the `count`th time on a path with `mark`.
KILLS_ITSELF = """
import importlib, os, signal, sys
place, function = sys.argv[1].split(".")
module, count, mark, calls = importlib.import_module(place), int(sys.argv[2]), sys.argv[3], []
real = getattr(module, function)
def killing(*arguments, **kwargs):
    if mark in str(arguments):
        calls.append(arguments)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **kwargs)
setattr(module, function, killing)
del sys.argv[1:4]
"""


# The weights of the cache in which the tests were started; each test has results of its own beside them.
WEIGHTS = cache_folder() / "weights"


def new_cache(folder: Path) -> Path:
    """An empty folder of results beside the shared weights."""
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    (folder / "weights").symlink_to(WEIGHTS.resolve(), target_is_directory=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """Where fixtures that outlive a test keep their results; never the user's own cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("COURSE_LIB_CACHE", str(new_cache(tmp_path_factory.mktemp("session-cache"))))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def cache_path(tmp_path_factory, monkeypatch) -> Path:
    """Each test begins without results."""
    from course_lib.llms.cache import default_cache

    folder = new_cache(tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("COURSE_LIB_CACHE", str(folder))
    yield folder
    monkeypatch.setenv("COURSE_LIB_CACHE", str(folder))
    default_cache().close()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A random Llama of two layers with a byte-level tokenizer and a ChatML template, as `save_pretrained` writes it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer():
    """One token for each byte, and the three control tokens of ChatML models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )
    tokenizer.model_max_length = 512
    return tokenizer
