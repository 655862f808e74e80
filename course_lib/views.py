"""What widgets are made of: a view with a live and a static form, controls, and bodies that are drawn anew."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as ipw

from course_lib import plots
from course_lib.errors import CourseLibError, InputError
from course_lib.tables import PLAIN, shortened, shown

Row = Mapping[str, Any]


class View:
    """A widget as the value of a cell: `box` for a live front end, `static` (HTML) for all others, `controls` by name."""

    def __init__(
        self,
        name: str,
        controls: Sequence[ipw.Widget],
        body: ipw.Widget,
        static: str,
        box: ipw.Widget | None = None,
    ):
        self.name, self.static = name, static
        self.controls = {control.description: control for control in controls}
        self.body = body
        self.box = box or ipw.VBox([*controls, body])

    def __repr__(self) -> str:
        return f"{self.name}. Run this cell to get the controls: {shortened(', '.join(self.controls), 200)}."

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        page = f"<div {PLAIN}><p><em>Run this cell to get the controls.</em></p>{self.static}</div>"
        return {"text/plain": repr(self), "text/html": page, "application/vnd.jupyter.widget-view+json": view}


def dropdown(name: str, options: Sequence[Any]) -> ipw.Dropdown:
    return ipw.Dropdown(description=name, options=options, layout={"width": "98%", "max_width": "640px"})


def slider(name: str, value: float, low: float, high: float, step: float) -> ipw.FloatSlider:
    looks = {"style": {"description_width": "110px"}, "layout": {"width": "98%", "max_width": "480px"}}
    return ipw.FloatSlider(
        description=name, value=value, min=low, max=high, step=step, continuous_update=False, **looks
    )


def row_dropdown(rows: Sequence[Row], columns: Sequence[str]) -> ipw.Dropdown:
    checked_rows(rows, columns)
    return dropdown(
        "row", [(f"{n}. {shortened(row['instruction'], 60)}", n - 1) for n, row in enumerate(rows, 1)]
    )


def checked_rows(rows: Sequence[Row], columns: Sequence[str]) -> None:
    if not rows:
        raise InputError("There are no rows to show. Give at least one.")
    for number, row in enumerate(rows):
        missing = [name for name in columns if name not in row]
        if missing:
            raise InputError(f"Row {number} has no {', '.join(missing)}. A row needs: {', '.join(columns)}.")


def drawn(controls: Sequence[ipw.Widget], draw: Callable[[], str]) -> ipw.HTML:
    """What `draw` gives, now and again whenever a control changes."""
    body = ipw.HTML(draw())

    def again(change) -> None:
        body.value = guarded(draw)

    for control in controls:
        control.observe(again, names="value")
    return body


def guarded(draw: Callable[[], str]) -> str:
    """What `draw` gives, or its error as text: nobody sees what a callback raises."""
    try:
        return draw()
    except Exception as error:
        kind = "" if isinstance(error, CourseLibError) else f"{type(error).__name__}: "
        return f'<p role="alert"><strong>This did not work.</strong> {shown(kind + str(error))}</p>'


def picture(fig, words: str) -> str:
    data = base64.b64encode(plots.png(fig)).decode("ascii")
    return f'<img style="max-width: 100%; width: 640px;" alt="{shown(words)}" src="data:image/png;base64,{data}">'
