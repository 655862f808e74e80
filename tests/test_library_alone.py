"""An installation of the library alone, made of links to what is installed here, is enough to use it."""

import ast
import os
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "requirements-library.txt").read_text(encoding="utf-8").splitlines()
LIBRARY = {canonicalize_name(Requirement(line).name) for line in LINES if line and not line.startswith("#")}
EXTRAS = {"openai", "any_llm", "argilla", "httpx", "trl", "peft"}


def imported_modules() -> set[str]:
    """The modules of others that code of the library imports anywhere, in functions too."""
    modules = set()
    for path in [*(ROOT / "course_lib").rglob("*.py"), *(ROOT / "exercises").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    others = {*sys.stdlib_module_names, "course_lib", *EXTRAS}
    return {name for name in modules if name.partition(".")[0] not in others}


def closure(names: set[str]) -> dict[str, Distribution]:
    """The installed distributions that `names` bring along on this machine, by name."""
    found, waiting = {}, [(name, "") for name in sorted(names)]
    seen = set()
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        for requirement in map(Requirement, found[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": chosen}):
                waiting += [
                    (canonicalize_name(requirement.name), extra)
                    for extra in ("", *sorted(requirement.extras))
                ]
    return found


def site(folder: Path, names: set[str]) -> Path:
    """A folder of links to what an installation of `names` alone would bring."""
    folder.mkdir()
    for dist in closure(names).values():
        for top in {file.parts[0] for file in dist.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(dist.locate_file(top)))
    return folder


def run(packages: Path, code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `code` in a Python that sees the library and `packages` and no other site-packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)])}
    command = [sys.executable, "-S", "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    """A random Llama of one layer as a GGUF file."""
    import numpy as np
    from gguf import GGUFWriter

    width, vocabulary = 8, 16
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    square, line = np.full((width, width), 0.1, dtype=np.float32), np.ones(width, dtype=np.float32)
    writer.add_tensor("token_embd.weight", np.full((vocabulary, width), 0.1, dtype=np.float32))
    writer.add_tensor("output_norm.weight", line)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", line)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", square)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


READ_GGUF = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM
path = Path(sys.argv[1])
print(type(AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)).__name__)
"""
IMPORT_ALL = """
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def test_the_library_alone_reads_gguf_and_imports_all_that_it_names(tmp_path, gguf_file):
    packages = site(tmp_path / "site", LIBRARY)
    done = run(packages, READ_GGUF + IMPORT_ALL, str(gguf_file), *sorted(imported_modules()))
    assert (done.returncode, done.stdout) == (0, "LlamaForCausalLM\n"), done.stderr[-2000:]


@pytest.mark.parametrize("package", ["accelerate", "gguf"])
def test_gguf_cannot_be_read_without(package, tmp_path, gguf_file):
    done = run(site(tmp_path / "site", LIBRARY - {package}), READ_GGUF, str(gguf_file))
    assert done.returncode == 1 and package in done.stderr.splitlines()[-1]


WALK = """
import pkgutil, course_lib
for module in pkgutil.walk_packages(course_lib.__path__, "course_lib."):
    print(module.name)
"""


def test_a_clone_has_each_module_once_and_the_exercises_among_them():
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{WALK}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    names = done.stdout.split()
    assert done.returncode == 0 and len(names) == len(set(names)), done.stderr[-2000:]
    assert {"course_lib.job", "course_lib.exercises", "course_lib.exercises.chapter_1"} <= set(names)
    assert not {"course_lib.tests", "course_lib.tools", "course_lib.course_lib"} & set(names)
