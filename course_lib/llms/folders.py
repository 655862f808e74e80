"""Whether a model folder may be loaded, seen from its files alone: no code in it, safetensors only, nothing missing."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.errors import InputError, WeightsError

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# Would run code, read pickles, or read from elsewhere than the folder that was checked.
REFUSED = ("trust_remote_code", "use_safetensors", "weights_only", "gguf_file", "subfolder", "adapter_kwargs")
REFUSED += ("config",)
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
ADVICE = "Give a folder that `save_pretrained` wrote, with config.json, tokenizer files and safetensors."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A folder that `from_pretrained` takes, and what else is known of the model.

    `fingerprint` names the exact weights: results in the cache are keyed by it. `chat_template` is None where the
    tokenizer brings its own. `completion_prefix` is written between a prompt and a completion when one is scored.
    """

    name: str = ""
    folder: Path = Path()
    fingerprint: str = ""
    licence: str = "see the model's page"
    source: str = ""
    chat_template: str | None = None
    stop_strings: tuple[str, ...] = ()
    completion_prefix: str = ""


def check_settings(settings: dict[str, Any]) -> None:
    """Raise `InputError` for an argument of `from_pretrained` that would get round what is checked here, or past our masks."""
    if refused := [name for name in REFUSED if name in settings]:
        raise InputError(
            f"model_kwargs has {', '.join(refused)}, which is not allowed: only safetensors are read, only from the model's "
            "own folder, and no code of a model is run. Leave it out."
        )
    if (attention := settings.get("attn_implementation", "sdpa")) != "sdpa":
        raise InputError(
            f"attn_implementation={attention!r}; allowed: 'sdpa', which takes the masks used here."
        )


def check_folder(folder: Path, weights: bool = True) -> None:
    """Raise `WeightsError` unless Transformers can load the model in `folder` without running or reading anything else.

    Args:
        folder: what `from_pretrained` would be given.
        weights: False for a folder of which only the tokenizer is read.
    """
    config = _json(folder, "config.json")
    _must(folder, isinstance(config.get("model_type"), str), "config.json names no model_type")
    for file in sorted(folder.glob("*.json")):
        plain = file.name == "tokenizer.json" or b'"auto_map"' not in _bytes(file)
        _must(
            folder, plain, f"{file.name} asks for code that comes with the model (auto_map), and none is run"
        )
    _must(folder, any((folder / name).is_file() for name in TOKENIZERS), "it has no tokenizer")
    if weights:
        adapted, named = (folder / "adapter_config.json").exists(), "transformers_weights" in config
        adapter = "it holds an adapter (adapter_config.json). Merge it first: model.merge_and_unload()"
        _must(folder, not adapted, adapter)
        _must(folder, not named, "config.json names a weights file of its own (transformers_weights)")
        # Layers without weights would be filled at random.
        layers = {int(match[1]) for name in _tensors(folder) if (match := LAYER.search(name))}
        count, there = text_config(folder).get("num_hidden_layers"), max(layers, default=0) + 1
        whole = not layers or not isinstance(count, int) or count <= there
        _must(folder, whole, f"config.json names {count} layers, and there are weights for {there}")


def check_type(folder: Path) -> None:
    """Raise `WeightsError` for a kind of model that the installed Transformers has no code for."""
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = _json(folder, "config.json")["model_type"]
    unknown = f"Transformers {__version__} knows no model_type {kind!r}; a newer version may"
    _must(folder, kind in CONFIG_MAPPING_NAMES, unknown)


def text_config(folder: Path) -> dict[str, Any]:
    """The settings in config.json; of a model that reads more than text, those of its language model."""
    config = _json(folder, "config.json")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _tensors(folder: Path) -> Iterator[str]:
    """The names of the tensors in the folder's safetensors, each file seen to be whole and inside."""
    names = ["model.safetensors"]
    if not (folder / names[0]).exists() and (folder / INDEX).exists():
        places = _json(folder, INDEX).get("weight_map")
        names = list(places.values()) if isinstance(places, dict) else []
        mapped = names and all(isinstance(name, str) for name in names)
        _must(folder, mapped, f"{INDEX} maps no tensors to files")
    # What the hub brought are links into the folder of its repository, which holds snapshots and blobs.
    whole = folder.parents[1] if folder.parent.name == "snapshots" else folder
    for name in sorted(set(names)):
        file = folder / name
        plain = Path(name).name == name and name.endswith(".safetensors")
        _must(folder, plain, f"{INDEX} names {name!r}, which is no safetensors file in it")
        others = ", ".join(sorted(p.name for p in folder.glob("*.bin")))
        pickles = f"; {others} may hold pickles, which are not read" if others else ""
        _must(folder, file.exists(), f"{name} is missing{pickles}")
        inside = file.resolve().is_relative_to(whole.resolve())
        _must(folder, inside, f"{name} leads out of the folder, to {file.resolve()}")
        if not (tensors := _names(file)):
            raise WeightsError(
                f"The weights in {folder} are cut short or damaged ({name}). Delete the folder {whole}, then run again; "
                "what neither pip nor the hub can bring must be saved there again."
            )
        yield from tensors


def _names(file: Path) -> list[str]:
    """The tensors of a safetensors file; none if it is shorter or longer than its header says, or no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as tensors:
            return list(tensors.keys())
    except (OSError, SafetensorError):
        return []


def _json(folder: Path, name: str) -> dict[str, Any]:
    _must(folder, (folder / name).is_file(), f"it holds no {name}, so it is not a saved model")
    try:
        content = json.loads(_bytes(folder / name))
    except (ValueError, RecursionError):
        content = None
    _must(folder, isinstance(content, dict), f"{name} is no JSON object")
    return content


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"{file} cannot be read ({reason}). Mend its rights, then run again.") from error


def _must(folder: Path, holds: Any, fault: str) -> None:
    if not holds:
        raise WeightsError(f"The model folder {folder} cannot be loaded: {fault}. {ADVICE}")
