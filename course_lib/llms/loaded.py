"""Weights in memory: one copy for all that ask for the same, and batches as large as memory allows."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.errors import WeightsError
from course_lib.llms.devices import MOST_ROWS, best_device, best_dtype, out_of_memory
from course_lib.llms.folders import ADVICE
from course_lib.llms.weights import quiet_transformers, readable

_by_key: dict[str, "Loaded"] = {}


@dataclass
class Loaded:
    """A model in memory, how many LLM objects hold it, and the largest batch that memory allowed."""

    model: Any
    users: int = 0
    most_rows: int = MOST_ROWS

    def in_parts(
        self, positions: list[int], compute: Callable[[list[int]], Any]
    ) -> Iterator[tuple[list[int], Any]]:
        """`(part, compute(part))` over `positions`: all at once, or in parts as small as memory asks for."""
        queue = [positions] if positions else []
        while queue:
            part = queue.pop(0)
            if len(part) > self.most_rows:
                queue[:0] = [part[: self.most_rows], part[self.most_rows :]]
                continue
            try:
                results = compute(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
                self.most_rows = len(part) // 2
                queue.insert(0, part)
                continue
            yield part, results


def load_model(folder: Path, dtype: str, device: str | None, settings: dict[str, Any]):
    """The Transformers model in `folder`, ready to compute; `settings` are those of `from_pretrained`."""
    import torch
    from transformers import AutoModelForCausalLM

    from course_lib.llms.products import with_fast_products

    device = device or best_device()
    number = getattr(torch, best_dtype(device, folder) if dtype == "auto" else dtype)
    settings = {"dtype": number, "attn_implementation": "sdpa", **settings}
    with quiet_transformers(), readable(folder):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **settings
        )
    check_tensors(folder, model, report)
    return with_fast_products((model if "device_map" in settings else model.to(device)).eval())


def check_tensors(folder: Path, model, report: dict[str, Any]) -> None:
    """Raise `WeightsError` where parameters were not in the files, which Transformers fills at random, or are no numbers."""
    import torch

    missing = sorted([*report["missing_keys"], *(key for key, *_ in report.get("mismatched_keys", ()))])
    broken = [name for name, tensor in model.named_parameters() if not torch.isfinite(tensor).all()]
    for fault, names in (
        ("are missing or of another shape", missing),
        ("hold values that are no numbers", broken),
    ):
        if names:
            raise WeightsError(
                f"The model in {folder} cannot be used: {len(names)} of its tensors {fault}, {names[0]} among them. {ADVICE}"
            )


def hold(key: str, load: Callable[[], Any]) -> Loaded:
    """The model loaded as `key`, with one user more; `load` makes it for the first."""
    if key not in _by_key:
        _by_key[key] = Loaded(load())
    _by_key[key].users += 1
    return _by_key[key]


def release(key: str) -> None:
    """One user less; the last frees the memory."""
    _by_key[key].users -= 1
    if _by_key[key].users:
        return
    model = weakref.ref(_by_key.pop(key).model)
    if model() is not None:  # it refers to itself; a collection costs a third of a second, so only then
        gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
