"""Whether a model folder may be loaded, seen from its files alone: no code in it, safetensors only, nothing missing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_lib.errors import InputError, WeightsError

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# Would run code, read pickles, or read from elsewhere than the folder that was checked.
REFUSED = (
    "trust_remote_code",
    "use_safetensors",
    "weights_only",
    "gguf_file",
    "subfolder",
    "adapter_kwargs",
    "config",
)
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
ADVICE = "Give a folder that `save_pretrained` wrote, with config.json, tokenizer files and safetensors."


def check_settings(settings: dict[str, Any]) -> None:
    """Raise `InputError` for an argument of `from_pretrained` that would get round what is checked here."""
    if refused := [name for name in REFUSED if name in settings]:
        raise InputError(
            f"model_kwargs has {', '.join(refused)}, which is not allowed: only safetensors are read, only from the model's "
            "own folder, and no code of a model is run. Leave it out."
        )


def check_folder(folder: Path, weights: bool = True) -> None:
    """Raise `WeightsError` unless Transformers can load the model in `folder` without running or reading anything else.

    Args:
        folder: what `from_pretrained` would be given.
        weights: False for a folder of which only the tokenizer is read.
    """
    config = _json(folder, "config.json")
    if not isinstance(config.get("model_type"), str):
        raise _fault(folder, "config.json names no model_type")
    for file in sorted(folder.glob("*.json")):
        if file.name != "tokenizer.json" and b'"auto_map"' in _bytes(file):
            raise _fault(
                folder, f"{file.name} asks for code that comes with the model (auto_map), and none is run"
            )
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise _fault(folder, "it has no tokenizer")
    if weights:
        if (folder / "adapter_config.json").exists():
            raise _fault(
                folder, "it holds an adapter (adapter_config.json). Merge it first: model.merge_and_unload()"
            )
        if "transformers_weights" in config:
            raise _fault(folder, "config.json names a weights file of its own (transformers_weights)")
        _check_layers(folder, list(_tensors(folder)))


def _tensors(folder: Path) -> Iterator[str]:
    """The names of the tensors in the folder's safetensors, each file seen to be whole and inside."""
    names = ["model.safetensors"]
    if not (folder / names[0]).exists() and (folder / INDEX).exists():
        mapped = _json(folder, INDEX).get("weight_map")
        if not isinstance(mapped, dict) or not mapped or not all(isinstance(n, str) for n in mapped.values()):
            raise _fault(folder, f"{INDEX} maps no tensors to files")
        names = sorted(set(mapped.values()))
    # What the hub brought are links into the folder of its repository.
    inside = (folder.parents[1] if folder.parent.name == "snapshots" else folder).resolve()
    for name in names:
        file = folder / name
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise _fault(folder, f"{INDEX} names {name!r}, which is no safetensors file in it")
        if not file.exists():
            others = ", ".join(sorted(p.name for p in folder.glob("*.bin")))
            raise _fault(
                folder,
                f"{name} is missing" + (f"; {others} may hold pickles, which are not read" if others else ""),
            )
        if not file.resolve().is_relative_to(inside):
            raise _fault(folder, f"{name} leads out of the folder, to {file.resolve()}")
        yield from header(file)


def header(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name (https://huggingface.co/docs/safetensors).

    Raises:
        WeightsError: the file is shorter or longer than its header says, or no safetensors file.
    """
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            tensors = json.loads(handle.read(min(size, file.stat().st_size)))
        tensors.pop("__metadata__", None)
        if file.stat().st_size == 8 + size + max(tensor["data_offsets"][1] for tensor in tensors.values()):
            return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    # What the hub brought lies beside its snapshots, which are links.
    whole = file.parents[2] if file.parent.parent.name == "snapshots" else file.parent
    raise WeightsError(
        f"The weights in {file.parent} are cut short or damaged ({file.name}). Delete the folder {whole}, then run again; "
        "what neither pip nor the hub can bring must be saved there again."
    )


def check_type(folder: Path) -> None:
    """Raise `WeightsError` for a kind of model that the installed Transformers has no code for."""
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = _json(folder, "config.json")["model_type"]
    if kind not in CONFIG_MAPPING_NAMES:
        raise _fault(folder, f"Transformers {__version__} knows no model_type {kind!r}; a newer version may")


def text_config(folder: Path) -> dict[str, Any]:
    """The settings in config.json; of a model that reads more than text, those of its language model."""
    config = _json(folder, "config.json")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _check_layers(folder: Path, tensors: list[str]) -> None:
    """Layers without weights would be filled at random."""
    named = text_config(folder).get("num_hidden_layers")
    there = {int(match[1]) for name in tensors if (match := LAYER.search(name))}
    if there and isinstance(named, int) and named > max(there) + 1:
        raise _fault(folder, f"config.json names {named} layers, and there are weights for {max(there) + 1}")


def _json(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise _fault(folder, f"it holds no {name}, so it is not a saved model")
    try:
        content = json.loads(_bytes(folder / name))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _fault(folder, f"{name} is no JSON object")
    return content


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read ({error.strerror or error}). Mend its rights, then run again."
        ) from error


def _fault(folder: Path, fault: str) -> WeightsError:
    return WeightsError(f"The model folder {folder} cannot be loaded: {fault}. {ADVICE}")
