"""The repository's address, which stands in pyproject.toml.

    python tools/address.py https://github.com/me/fork        write another one there and wherever links are made from it
    python tools/address.py                                   print it

Needs the standard library alone: whoever forks the repository can run it before anything is installed.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOLDERS = ("pyproject.toml", "*.md", "docs/*.md", "*/*.ipynb", "exercises/*.md")
GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]*[A-Za-z0-9_-])")


def address(root: Path = ROOT) -> str:
    """The address of the repository in `root`, without a slash at its end."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removesuffix("/")


def place(url: str) -> str:
    """OWNER/NAME of the repository on GitHub at `url`.

    Raises:
        SystemExit: `url` is no address of a repository on GitHub.
    """
    match = GITHUB.fullmatch(url.strip().removesuffix("/").removesuffix(".git"))
    if match is None:
        raise SystemExit(
            f"{url!r} is no address of a repository on GitHub: give one like https://github.com/me/fork; nothing was changed."
        )
    return match.group(1)


def publish(url: str, root: Path = ROOT) -> list[Path]:
    """Write the address `url` instead of the present one everywhere in `root`; the files that changed."""
    new, old = place(url), re.escape(place(address(root)))
    # GitHub's own links have github.com/OWNER/NAME, Colab's have /github/OWNER/NAME.
    linked = re.compile(rf"(github(?:\.com)?/){old}(?![\w-]|\.\w)")
    changed = []
    for file in sorted(file for pattern in HOLDERS for file in root.glob(pattern)):
        before = file.read_bytes().decode("utf-8")
        after = linked.sub(lambda match: match.group(1) + new, before)
        if after != before:
            file.write_bytes(after.encode("utf-8"))
            changed.append(file)
    return changed


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        raise SystemExit(__doc__)
    if arguments:
        changed = publish(arguments[0])
        print(f"{address()} now stands in {len(changed)} files that had another address.")
    else:
        print(address())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
