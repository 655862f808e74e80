"""Weights in memory: one copy for all that ask for the same, and batches as large as memory allows."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.errors import CourseLibError, WeightsError
from course_lib.llms.devices import MOST_ROWS, best_device, best_dtype, most_nodes, out_of_memory
from course_lib.llms.folders import ADVICE

_by_key: dict[str, "Loaded"] = {}


@dataclass
class Loaded:
    """A model in memory, how many LLM objects hold it, and the largest batch that memory allowed."""

    key: str
    model: Any
    users: int = 0
    most_rows: int = MOST_ROWS

    def in_parts(
        self, positions: list[int], compute: Callable[[list[int]], Any]
    ) -> Iterator[tuple[list[int], Any]]:
        """`(part, compute(part))` over `positions`: all at once, or in parts as small as memory asks for."""
        while positions:
            part = positions[: self.most_rows]
            try:
                results = compute(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
                self.most_rows = len(part) // 2
                continue
            positions = positions[len(part) :]
            yield part, results

    def scored(
        self, rows: dict[int, tuple[list[int], int, Any]], wanted: set[int], compute: Callable
    ) -> Iterator[dict[int, Any]]:
        """Batches of what `compute` gives for the `rows` wanted, laid over each other; what all begin with is read once.

        Args:
            rows: by position: token ids, how many of them stand before all that is scored, and what is scored of them.
            compute: `tree.log_probs_of` or `tree.hidden_features`.
        """
        from course_lib.llms import tree

        if not wanted & set(rows):
            return
        tokens = {p: ids for p, (ids, _, _) in rows.items()}
        shared = tree.shared_length(list(tokens.values()), most=min(start for _, start, _ in rows.values()))
        prefix = tree.read_prefix(self.model, next(iter(tokens.values()))[:shared])

        def score(part: list[int]) -> Any:
            return compute(self.model, [tokens[p] for p in part], [rows[p][2] for p in part], prefix)

        for batch in tree.tree_batches(
            {p: ids[shared:] for p, ids in tokens.items()}, most_nodes(self.model)
        ):
            for part, results in self.in_parts([p for p in batch if p in wanted], score):
                yield dict(zip(part, results, strict=True))


def hold(key: str, load: Callable[[], Any]) -> Loaded:
    """The model loaded as `key`, with one user more; `load` makes it for the first."""
    if key not in _by_key:
        _by_key[key] = Loaded(key, load())
    _by_key[key].users += 1
    return _by_key[key]


def release(loaded: Loaded) -> None:
    """One user less; the last gives the memory back."""
    loaded.users -= 1
    if loaded.users:
        return
    del _by_key[loaded.key]
    loaded.model = None
    gc.collect()  # a model refers to itself
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_model(folder: Path, dtype: str, device: str | None, settings: dict[str, Any]):
    """The Transformers model in `folder`, ready to compute; `settings` are those of `from_pretrained`."""
    import torch
    from transformers import AutoModelForCausalLM

    from course_lib.llms.products import with_fast_products

    device = device or best_device()
    number = getattr(torch, best_dtype(device, folder) if dtype == "auto" else dtype)
    settings = {"dtype": number, "attn_implementation": "sdpa", **settings}
    with reading(folder):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **settings
        )
    missing = sorted([*report["missing_keys"], *(key for key, *_ in report.get("mismatched_keys", ()))])
    broken = [name for name, tensor in model.named_parameters() if not torch.isfinite(tensor).all()]
    # Transformers fills at random what was not in the files.
    if names := missing or broken:
        fault = "are missing or of another shape" if missing else "hold values that are no numbers"
        raise WeightsError(
            f"The model in {folder} cannot be used: {len(names)} of its tensors {fault}, {names[0]} among them. {ADVICE}"
        )
    return with_fast_products((model if "device_map" in settings else model.to(device)).eval())


@contextmanager
def reading(folder: Path):
    """Turn what Transformers raises over the model in `folder` into a `WeightsError`, but for want of memory.

    It shows no bars meanwhile: reading from a local disk takes a second.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        if isinstance(error, CourseLibError) or out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")
        raise WeightsError(
            f"The model in {folder} could not be loaded ({type(error).__name__}: {reason[:200]}). {ADVICE}"
        ) from error
    finally:
        logging.enable_progress_bar()
