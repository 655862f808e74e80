"""A bar for what takes long before any row is made: in the cell of a notebook, on a terminal, or as lines of a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Bar:
    """Text and a share from 0 to 1: one line that is written over on a terminal, elsewhere a line for each new text."""

    def __init__(self, title: str):
        self.title, self.text = title, ""
        self.on_terminal = getattr(sys.stderr, "isatty", lambda: False)()

    def show(self, text: str, share: float, detail: str = "") -> None:
        """Say what is being done (`text`), how far it is, and numbers that change all the time (`detail`)."""
        if self.on_terminal:
            line = f"{self.title} {share:4.0%} {text} {detail}"
            print(f"\r{line:<79}", end="", file=sys.stderr, flush=True)
        elif text != self.text:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)
        self.text = text

    def close(self, done: bool) -> None:
        """Leave the last state visible."""
        if self.on_terminal:
            print(file=sys.stderr)


class CellBar(Bar):
    """A widget below the cell that runs.

    It goes there as a widget's view alone: a stream would count as an output of the cell, which nbval compares.
    """

    def __init__(self, title: str):
        import ipywidgets
        from IPython.display import display

        super().__init__(title)
        self.bar = ipywidgets.FloatProgress(min=0.0, max=1.0, layout={"width": "200px"})
        self.label = ipywidgets.Label()
        box = ipywidgets.HBox([ipywidgets.Label(title), self.bar, self.label])
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        display({WIDGET_VIEW: view}, raw=True)

    def show(self, text: str, share: float, detail: str = "") -> None:
        self.bar.value, self.label.value = share, f"{text} {detail}".strip()

    def close(self, done: bool) -> None:
        self.bar.bar_style = "success" if done else "danger"


@contextmanager
def progress(title: str) -> Iterator[Bar]:
    """A `Bar` for the place where the program runs."""
    # A process that has not imported IPython is no kernel.
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
    bar = CellBar(title) if in_notebook else Bar(title)
    done = False
    try:
        yield bar
        done = True
    finally:
        bar.close(done)
