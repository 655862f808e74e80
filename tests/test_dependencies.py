"""What is imported is declared where it is needed, and what is pinned installs on every Python that the course takes."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYTHONS = ["3.11.0", "3.11.2", "3.12.0", "3.13.0"]
# Imported by name only here, by Transformers when it reads a GGUF file.
NEEDED_BY_OTHERS = {"accelerate", "gguf"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(Requirement(line).name) for line in lines if re.match(r"\w", line)}


def extra(*names: str) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for name in names for line in EXTRAS[name]} - {
        "course-lib"
    }


LIBRARY = requirements("requirements-library.txt")
CHAPTERS = LIBRARY | requirements("requirements.txt")
DISTRIBUTIONS = importlib.metadata.packages_distributions()
EVERYTHING = CHAPTERS | extra("train", "openai", "any-llm", "argilla", "test", "browser")


def imported(code: str) -> set[str]:
    """The packages that `code` imports anywhere, as distributions are called; those of Python and ours left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    ours = {"course_lib", "exercises", "tests"}
    ours |= {
        file.stem for folder in ("tests", "tools", "benchmarks") for file in (ROOT / folder).rglob("*.py")
    }
    ours |= {folder.name for folder in (ROOT / "tests").iterdir()}
    others = names - ours - sys.stdlib_module_names
    return {canonicalize_name(DISTRIBUTIONS.get(name, [name])[0]) for name in others}


def imported_in(*patterns: str) -> set[str]:
    return {
        name
        for pattern in patterns
        for file in ROOT.glob(pattern)
        for name in imported(file.read_text("utf-8"))
    }


def test_what_the_library_imports_is_what_its_installation_brings():
    used = imported_in("course_lib/**/*.py", "exercises/*.py")
    # The extras are asked for in words where they are missing.
    assert used - LIBRARY == extra("openai", "any-llm", "argilla", "train")
    assert LIBRARY - used - NEEDED_BY_OTHERS == set()


@pytest.mark.parametrize("package", sorted(NEEDED_BY_OTHERS))
def test_what_transformers_imports_to_read_packaged_models_is_brought_too(package):
    assert package in LIBRARY


def test_an_installation_of_the_library_leaves_jupyter_alone():
    assert LIBRARY & {"jupyter", "jupyterlab", "notebook", "ipykernel", "nbval", "nbconvert"} == set()


def test_the_chapters_import_what_requirements_and_training_bring():
    for file in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")]:
        cells = nbformat.read(file, as_version=4).cells
        code = "\n".join(
            re.sub(r"^\s*[%!].*", "", c.source, flags=re.M) for c in cells if c.cell_type == "code"
        )
        assert imported(code) - CHAPTERS - extra("train") == set(), file.name


def test_tests_tools_and_benchmarks_import_what_the_extras_bring():
    # The peer has an environment of its own; tools/fresh.py runs a notebook in one that it makes.
    assert (
        imported_in("tests/**/*.py", "tools/*.py", "benchmarks/*.py") - EVERYTHING - {"distilabel"} == set()
    )


def test_everything_declared_is_pinned():
    pinned = requirements("constraints.txt")
    assert EVERYTHING - pinned == set()


@pytest.mark.parametrize("python", PYTHONS)
def test_each_pinned_version_that_is_installed_here_takes_every_python_of_the_course(python):
    pinned = requirements("constraints.txt")
    refusing = [
        f"{distribution.name} {distribution.version}: {wanted}"
        for distribution in importlib.metadata.distributions()
        if canonicalize_name(distribution.name) in pinned
        and (wanted := distribution.metadata.get("Requires-Python"))
        and not SpecifierSet(wanted).contains(python)
    ]
    assert refusing == []
