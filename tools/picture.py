"""docs/architecture.png: the rooms of `course_lib` and which imports which, read from the source.

    python tools/picture.py

A room is a package or a module at the top. Each stands one floor above the highest of those that it imports.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.png"
# Nearly every room imports these: their arrows would hide the others.
BASE = {"errors", "paths", "memory", "progress", "declared", "absent"}
# Where a room stands from left to right, so that few arrows cross; its floor follows from its imports.
COLUMNS = {
    "job": -1.5,
    "training": -2.4,
    "card": -2.4,
    "settings": -2.4,
    "pipeline": -1.5,
    "distiset": -2.0,
    "__main__": -1.0,
    **dict.fromkeys(["audit_report", "audit", "effects", "faults", "pairs", "conversations"], -0.5),
    "judging": 0.6,
    "llms": 0.6,
    "steps": 0.6,
    "steps.tasks": 0.6,
    "plots": 1.8,
    "tables": 1.8,
    "views": 2.6,
    "labels": 2.6,
    "rule": 2.6,
    "widgets": 2.6,
    "errors": -2.2,
    "paths": -1.2,
    "declared": -0.2,
    "progress": 0.8,
    "exercises": 3.4,
    "models": 3.4,
    "memory": -1.6,
    "absent": -0.6,
}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The files of `course_lib` by dotted name."""
    files = sorted((root / "course_lib").rglob("*.py"))
    return {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def named(file: Path) -> set[str]:
    """What a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imports(file: Path) -> set[str]:
    """The modules of `course_lib` that a file imports."""
    return {name for name in named(file) if name.startswith("course_lib.")}


def room(module: str) -> str:
    """`llms`, `steps`, `steps.tasks`, …: the room that a module belongs to."""
    parts = module.split(".")[1:]
    return "steps.tasks" if parts[:2] == ["steps", "tasks"] else parts[0] if parts else ""


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """For each room the rooms that it imports."""
    known = modules(root)
    graph: dict[str, set[str]] = {room(name): set() for name in known if room(name)}
    for name, file in known.items():
        if room(name):
            graph[room(name)] |= {room(target) for target in imports(file) if target in known} - {
                room(name),
                "",
            }
    return graph


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """How high each room stands: 0 without imports, else one above the highest room that it imports."""
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = max((height(below) + 1 for below in graph[name]), default=0)
        return heights[name]

    for name in graph:
        height(name)
    return heights


def draw(graph: dict[str, set[str]], lines: dict[str, int]) -> None:
    """A box per room with its lines; an arrow per import, unless a longer way shows it as well."""
    from course_lib.plots import figure, save

    heights = floors(graph)
    place = {name: (COLUMNS.get(name, 3.4), height) for name, height in heights.items()}
    fig, ax = figure(9, 1.1 * (max(heights.values()) + 1))
    ax.axis("off")
    ax.set(xlim=(-2.9, 3.9), ylim=(-0.4, max(heights.values()) + 0.4))
    for name, below in graph.items():
        reached = {far for near in below for far in everything_below(graph, near)}
        for target in below - reached - BASE:
            (x, y), (u, v) = place[name], place[target]
            bend = "arc3,rad=0.12" if y - v > 1 and x == u else "arc3"
            look = {"arrowstyle": "-|>", "color": "#555555", "connectionstyle": bend, "zorder": 0}
            ax.annotate("", (u, v + 0.28), (x, y - 0.28), arrowprops=look)
    for name, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#CFE6F5", "edgecolor": "#0072B2"}
        ax.text(x, y, f"{name}\n{lines[name]:,} lines", ha="center", va="center", fontsize=9, bbox=box)
    save(fig, PICTURE)


def everything_below(graph: dict[str, set[str]], name: str) -> set[str]:
    return graph[name] | {far for near in graph[name] for far in everything_below(graph, near)}


def line_counts(root: Path = ROOT) -> dict[str, int]:
    """Lines of Python in each room."""
    counts: dict[str, int] = {}
    for name, file in modules(root).items():
        counts[room(name)] = counts.get(room(name), 0) + len(file.read_text(encoding="utf-8").splitlines())
    return counts


if __name__ == "__main__":
    draw(arrows(), line_counts())
    print(f"wrote {PICTURE.relative_to(ROOT)}")
