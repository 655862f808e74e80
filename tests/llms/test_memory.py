"""Running out of memory makes batches smaller, for all that use the same weights; nothing else does."""

import pytest
import torch

from course_lib.llms import TransformersLLM, decoding

CHATS = [
    [{"role": "user", "content": f"Count from {n} to ten, slowly and in words, please."}] for n in range(8)
]


@pytest.fixture
def llm(tiny_model_folder):
    made = TransformersLLM(str(tiny_model_folder), use_cache=False)
    yield made
    made.unload()


class Sizes(list):
    """The sizes of the batches that were decoded; for those of more than two rows, `fails` was called first."""

    fails = staticmethod(lambda: None)


@pytest.fixture
def sizes(monkeypatch):
    seen, real = Sizes(), decoding.decode

    def decode(model, rows, *rest):
        seen.append(len(rows))
        if len(rows) > 2:
            seen.fails()
        real(model, rows, *rest)

    monkeypatch.setattr(decoding, "decode", decode)
    return seen


def texts(llm, chats=CHATS):
    return [result["generations"][0] for result in llm.generate(chats, max_new_tokens=6)]


def raising(error):
    def fails():
        raise error

    return fails


MEMORY = {
    "PyTorch's own exception": raising(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    ),
    "Python's": raising(MemoryError()),
    "what a CPU really says": lambda: torch.empty(10**15),
    "a CPU on Windows": raising(
        RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to …")
    ),
    "CUDA outside of PyTorch's allocator": raising(RuntimeError("CUDA error: out of memory")),
    "cuBLAS": raising(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    ),
    "Apple": raising(
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 8.0 GB)")
    ),
}
OTHER = [
    "CUDA error: an illegal memory access was encountered",
    "unsupported memory format option Preserve",
    "shapes differ",
]


@pytest.mark.parametrize("kind", MEMORY)
def test_running_out_of_memory_halves_the_batch_and_changes_no_text(llm, sizes, kind):
    expected = texts(llm)
    sizes.fails = MEMORY[kind]
    assert texts(llm) == expected
    assert sizes == [8, 8, 4, 2, 2, 2, 2]


@pytest.mark.parametrize("message", OTHER)
def test_errors_that_only_speak_of_memory_are_raised_at_once(llm, sizes, message):
    sizes.fails = raising(RuntimeError(message))
    with pytest.raises(RuntimeError, match=message):
        texts(llm)
    assert sizes == [8]


def test_one_row_that_does_not_fit_is_an_error(llm, monkeypatch):
    monkeypatch.setattr(decoding, "decode", lambda *arguments: torch.empty(10**15))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        texts(llm)


def test_size_that_worked_holds_for_all_that_share_the_weights_until_they_are_unloaded(
    llm, sizes, tiny_model_folder
):
    twin = TransformersLLM(str(tiny_model_folder), use_cache=False)
    sizes.fails = MEMORY["Python's"]
    texts(llm)
    assert twin.hf_model is llm.hf_model
    texts(twin)
    assert sizes == [8, 4, 2, 2, 2, 2] + [2, 2, 2, 2]
    llm.unload()
    texts(twin, CHATS[:4])
    assert sizes[10:] == [2, 2]
    twin.unload()
    texts(twin, CHATS[:4])
    assert sizes[12:] == [4, 2, 2]
    twin.unload()
