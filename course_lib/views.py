"""What widgets are made of: a view with a live and a static form, and its controls."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as ipw

from course_lib import plots
from course_lib.errors import CourseLibError, InputError
from course_lib.tables import PLAIN, shortened, shown

Row = Mapping[str, Any]


class View:
    """A widget as the value of a cell: `box` for a live front end, `static` (HTML) for all others, `controls` by name.

    What `draw` gives stands in `body`, anew whenever a control changes or, where there is a button, when it is pressed.
    Without another `static` form it is what stands there at first, without pictures.
    """

    def __init__(self, name: str, controls: Sequence[ipw.Widget], draw: Callable[[], str], static: str = ""):
        self.name, self.draw = name, draw
        self.controls = {control.description: control for control in controls}
        self.body = ipw.HTML(draw())
        self.static = static or re.sub("<img [^>]*>", "", self.body.value)
        self.box = ipw.VBox([*controls, self.body])
        self.buttons = [control for control in controls if isinstance(control, ipw.Button)]
        for button in self.buttons:
            button.on_click(self.redraw)
        for control in [] if self.buttons else controls:
            control.observe(self.redraw, names="value")

    def redraw(self, event: Any) -> None:
        """Draw, and show an error as text: nobody sees what a callback raises."""
        for button in self.buttons:
            button.disabled, self.body.value = True, '<p role="status">Writing …</p>'
        try:
            self.body.value = self.draw()
        except Exception as error:
            kind = "" if isinstance(error, CourseLibError) else f"{type(error).__name__}: "
            text = shown(kind + str(error))
            self.body.value = f'<p role="alert"><strong>This did not work.</strong> {text}</p>'
        for button in self.buttons:
            button.disabled = False

    def __repr__(self) -> str:
        return f"{self.name}. Run this cell to get the controls: {shortened(', '.join(self.controls), 200)}."

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        page = f"<div {PLAIN}><p><em>Run this cell to get the controls.</em></p>{self.static}</div>"
        return {"text/plain": repr(self), "text/html": page, "application/vnd.jupyter.widget-view+json": view}


def control(kind: type[ipw.Widget], name: str, **options: Any) -> ipw.Widget:
    """A control of a kind of ipywidgets, with its name beside it."""
    layout = {"width": "98%", "max_width": "640px"}
    return kind(description=name, style={"description_width": "110px"}, layout=layout, **options)


def slider(name: str, value: float, low: float, high: float, step: float) -> ipw.FloatSlider:
    options = {"value": value, "min": low, "max": high, "step": step}
    return control(ipw.FloatSlider, name, continuous_update=False, **options)


def row_dropdown(rows: Sequence[Row], columns: Sequence[str]) -> ipw.Dropdown:
    """A menu of rows by number and instruction, of which each must have `columns`."""
    checked_rows(rows, columns)
    names = [(f"{k + 1}. {shortened(row['instruction'], 60)}", k) for k, row in enumerate(rows)]
    return control(ipw.Dropdown, "row", options=names)


def checked_rows(rows: Sequence[Row], columns: Sequence[str]) -> None:
    if not rows:
        raise InputError("There are no rows to show. Give at least one.")
    for number, row in enumerate(rows):
        missing = [name for name in columns if name not in row]
        if missing:
            raise InputError(f"Row {number} has no {', '.join(missing)}. A row needs: {', '.join(columns)}.")


def picture(fig, words: str) -> str:
    """A figure as HTML, with `words` for those who do not see it."""
    data = base64.b64encode(plots.png(fig)).decode("ascii")
    return f'<img style="max-width: 100%; width: 640px;" alt="{shown(words)}" src="data:image/png;base64,{data}">'
