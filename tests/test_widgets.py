"""Widgets: the plain functions below them, their controls without a browser, and what a real kernel stores."""

import html
import json
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib import tables, widgets
from course_lib.errors import InputError
from course_lib.llms import LLM, ScriptedLLM

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)">\' \0 \u202eabc\u202c \u2066x \x1b[31m \ud800 </td></table></div> '
    "<del>no</del> $5 and $6\r\nשלום\u200f 日本語 🙂 &lt;"
)
ALLOWED = {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "em", "strong", "del", "ins", "br", "img"}
REWRITE = {
    "instruction": "Why?",
    "before": "Blue is cold.",
    "after": "Blue is warm.",
    "criterion": "depth",
    "fault": None,
}
RATED = {
    "instruction": "Why is the sky blue?",
    "generations": ["Scattering.", "Because."],
    "generation_models": ["small", "large"],
    "aspects": {
        "helpfulness": {
            "ratings": [4.256, None],
            "distributions": [[0.0, 0.1, 0.2, 0.3, 0.4], None],
            "rationales": ["Right.", None],
        },
        "honesty": {"ratings": [2.0, 3.0], "distributions": [None, None], "rationales": [None, None]},
    },
}
PAIRS = [
    {
        "instruction": f"Q{k}",
        "generations": [f"alpha beta {k}", f"gamma delta {k}"],
        "generation_models": ["a", "b"],
        "ratings": r,
    }
    for k, r in enumerate([[4.0, 1.0], [3.0, 2.5], [2.0, 2.0], [None, 2.0]])
]


def judged(good: float) -> list[dict]:
    ratings = {"good": good, "worse": 2.0, "off_topic": 1.0}
    kinds = [("facts", "wrong"), ("facts", "rude"), ("travel", "wrong")]
    return [{"category": category, "worse_kind": kind, "ratings": ratings} for category, kind in kinds]


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(page: str) -> Tags:
    """Only tags of ours, none with a handler, all closed, no character that a reader cannot see."""
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.seen} <= ALLOWED
    assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on")]
    assert all(
        attrs["src"].startswith("data:image/png;base64,") and attrs["alt"]
        for tag, attrs in tags.seen
        if tag == "img"
    )
    assert not tables.UNSEEN.search(page)
    return tags


def views(text: str = "plain") -> dict[str, widgets.View]:
    rated = {**RATED, "instruction": text, "generations": [text, None], "generation_models": [text, text]}
    aspects = {text: {"ratings": [1, None], "distributions": [[0.2] * 5, None], "rationales": [text, None]}}
    items = [{**item, "category": text} for item in judged(3.0)]
    return {
        "explorer": widgets.completion_explorer({text: ScriptedLLM([text])}, text, text),
        "before_after": widgets.before_after([dict.fromkeys(REWRITE, text), REWRITE]),
        "ratings": widgets.rating_browser([{**rated, "aspects": aspects}]),
        "bench": widgets.judge_bench({text: items}),
        "margin": widgets.margin_slider(
            [{**row, "instruction": text, "generations": [f"It is {text}", "b"]} for row in PAIRS]
        ),
        "labels": widgets.label_pairs(to_label(text), Path(tempfile.mkdtemp()) / "labels.json"),
    }


def to_label(text: str = "plain", count: int = 3) -> list[dict]:
    return [{"id": f"{k} {text}", "instruction": text, "A": f"a{k} {text}", "B": text} for k in range(count)]


# --- text and tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [HOSTILE, "x" * 20_000, "w " * 10_000, "\u202e" * 300], ids=["html", "x", "words", "turned"]
)
def test_hostile_text_is_only_text(text):
    for view in views(text).values():
        for page in (view.static, view.body.value, view._repr_mimebundle_()["text/html"]):
            checked(page)
        assert "\n" not in repr(view)
        if text is HOSTILE:
            assert "<script>alert(1)</script>" in Tags(view.static).text


def test_shown_escapes_names_what_cannot_be_seen_and_counts_what_it_leaves_out():
    assert tables.shown("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert tables.shown("a\0b\u202ec\ud800") == "a[U+0000]b[U+202E]c[U+D800]"
    assert tables.shown("a\r\nb\tc\u200f") == "a\nb\tc\u200f"
    long = tables.shown("x" * (tables.MOST + 1234))
    assert long.startswith("x" * tables.MOST + " …")
    assert long.endswith("(1,234 more characters)")


def test_a_table_shows_numbers_gaps_and_lists():
    rows = [{"a": 1.005, "b": None, "c": [0.126, None, "x"], "d": 3, "e": True}, {"a": -0.5, "f": {"k": 1.0}}]
    page = checked(widgets.table(rows)._repr_html_())
    assert [tag for tag, _ in page.seen].count("th") == 6
    assert all(attrs["scope"] == "col" for tag, attrs in page.seen if tag == "th")
    text = repr(widgets.table(rows)).splitlines()
    assert text[0].split() == ["a", "b", "c", "d", "e", "f"]
    assert text[1].split() == ["1.00", "-", "0.13,", "-,", "x", "3", "True", "-"]
    assert text[2].split() == ["-0.50", "-", "-", "-", "-", "k:", "1.00"]
    assert "0.13, -, x" in page.text


def test_a_table_can_show_some_columns_in_another_order():
    assert repr(widgets.table([{"a": 1, "b": 2}], ["b", "a"])) == "b  a\n2  1"


def test_numpy_values_are_shown_like_python_values():
    import numpy as np

    assert tables.as_text(np.float32(0.126)) == "0.13"
    assert tables.as_text(np.array([0.126, 1.0])) == "0.13, 1.00"
    assert tables.as_text(np.int64(3)) == "3"


def test_a_table_without_rows_says_so():
    assert checked(widgets.table([])._repr_html_()).text == "(no rows)"
    assert repr(widgets.table([], ["a"])) == "(no rows)"


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        ({"a": 1}, None, "list of dicts"),
        ([1], None, "list of dicts"),
        ("ab", None, "list"),
        ([{"a": 1}], ["z"], "There is: a"),
    ],
)
def test_a_table_refuses_what_is_no_rows(rows, columns, said):
    with pytest.raises(InputError, match=said):
        widgets.table(rows, columns)


# --- completions --------------------------------------------------------------------------------------------------------


class Recorder(ScriptedLLM):
    """Keeps what it was asked."""

    def generate(self, inputs, num_generations=1, **kwargs):
        self.asked = (inputs, kwargs)
        return super().generate(inputs, num_generations, **kwargs)


def test_side_by_side_asks_every_model_the_same():
    llms = {"a": Recorder(["red"]), "b": Recorder([None])}
    rows = widgets.side_by_side(
        llms, "A colour?", "Be brief.", temperature=0.3, top_p=0.5, max_new_tokens=9, seed=4
    )
    assert rows == [{"model": "a", "completion": "red"}, {"model": "b", "completion": None}]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A colour?"}]
    arguments = {"temperature": 0.3, "top_p": 0.5, "max_new_tokens": 9, "seed": 4}
    assert llms["a"].asked == llms["b"].asked == ([chat], arguments)


def test_side_by_side_without_a_system_prompt_sends_none():
    llm = Recorder(["red"])
    widgets.side_by_side({"a": llm}, "A colour?")
    assert llm.asked[0] == [[{"role": "user", "content": "A colour?"}]]


@pytest.mark.parametrize(
    ("llms", "text"), [({}, "x"), ({"a": ScriptedLLM(["y"])}, "  "), ({"a": ScriptedLLM(["y"])}, None)]
)
def test_side_by_side_refuses_no_model_and_no_instruction(llms, text):
    with pytest.raises(InputError):
        widgets.side_by_side(llms, text)


def test_the_explorer_writes_when_asked_with_what_the_controls_say():
    llm = Recorder(lambda chat: f"said {chat[-1]['content']}")
    view = widgets.completion_explorer({"one": llm, "two": ScriptedLLM(["other"])}, "first")
    assert "said first" in view.body.value
    assert "other" in view.body.value
    view.controls["instruction"].value = "second"
    view.controls["system prompt"].value = "Shout."
    view.controls["temperature"].value = 0.1 + 0.2
    view.controls["top-p"].value = 0.5
    view.controls["seed"].value = 7
    view.controls["two"].value = False
    assert "said first" in view.body.value, "only the button writes"
    view.controls["Write"].click()
    assert "said second" in view.body.value
    assert "other" not in view.body.value
    assert "temperature 0.30, top-p 0.50, seed 7, at most 48 tokens" in view.body.value
    [chat], arguments = llm.asked
    assert chat[0] == {"role": "system", "content": "Shout."}
    assert arguments == {"temperature": 0.3, "top_p": 0.5, "max_new_tokens": 48, "seed": 7}


def test_the_explorer_is_busy_while_it_writes():
    seen = []

    def reply(chat):
        if view:
            seen.append((view[0].body.value, view[0].controls["Write"].disabled))
        return "done"

    view: list[widgets.View] = []
    view.append(widgets.completion_explorer({"a": ScriptedLLM(reply)}, "x"))
    view[0].controls["Write"].click()
    assert "Writing" in seen[0][0]
    assert seen[0][1] is True
    assert view[0].controls["Write"].disabled is False


class Broken(ScriptedLLM):
    def generate(self, inputs, num_generations=1, **kwargs):
        if inputs[0][-1]["content"] == "break":
            raise RuntimeError("<b>out of memory</b>")
        return super().generate(inputs, num_generations, **kwargs)


def test_errors_of_callbacks_are_shown_and_leave_the_controls_usable():
    view = widgets.completion_explorer({"a": Broken(["fine"])}, "x")
    for control, value, said in [
        ("instruction", "", "instruction is empty"),
        ("a", False, "No model is chosen"),
    ]:
        before = view.controls[control].value
        view.controls[control].value = value
        view.controls["Write"].click()
        assert said in view.body.value
        view.controls[control].value = before
    view.controls["instruction"].value = "break"
    view.controls["Write"].click()
    assert "RuntimeError: <b>out of memory</b>" in checked(view.body.value).text
    view.controls["instruction"].value = "x"
    view.controls["Write"].click()
    assert "fine" in view.body.value


def test_an_error_at_the_start_is_raised_where_the_cell_runs():
    with pytest.raises(InputError):
        widgets.completion_explorer({}, "x")


def test_the_explorer_works_with_any_llm():
    class Own(LLM):
        model_name = "own"

        def write(self, requests, wanted):
            yield {
                k: {"text": "mine", "input_tokens": 1, "output_tokens": 1, "finish_reason": "stop"}
                for k in wanted
            }

    assert "mine" in widgets.completion_explorer({"own": Own(use_cache=False)}, "x").body.value


# --- before and after ---------------------------------------------------------------------------------------------------


def marked(page: str) -> list[tuple[str, str]]:
    """`(tag or "", words)` of a difference, in order."""
    parts, parser = [], HTMLParser(convert_charrefs=True)
    parser.handle_starttag = lambda tag, attrs: parts.append((tag, ""))
    parser.handle_endtag = lambda tag: parts.append(("", ""))
    parser.handle_data = lambda data: parts.append(
        (parts.pop()[0] if parts and not parts[-1][1] else "", data.strip())
    )
    parser.feed(page)
    parser.close()
    return [(tag, words) for tag, words in parts if words]


def test_a_difference_marks_the_words_that_changed():
    page = widgets.marked_difference("The sky is blue.", "The sky looks very blue.")
    assert marked(page) == [("", "The sky"), ("del", "is"), ("ins", "looks very"), ("", "blue.")]
    assert html.unescape(widgets.marked_difference("a < b", "a < b")) == "a < b"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "new", [("ins", "new")]),
        ("old", None, [("del", "old")]),
        (None, "", []),
        ("a", "b", [("del", "a"), ("ins", "b")]),
        ("one\n\ntwo", "one\n\ntwo three", [("", "one\n\ntwo"), ("ins", "three")]),
    ],
)
def test_a_difference_of_little_or_nothing(before, after, expected):
    assert marked(widgets.marked_difference(before, after)) == expected


def test_texts_that_differ_only_in_spaces_do_not_differ():
    assert "<del" not in widgets.marked_difference("a  b\nc", "a b c")


def test_before_after_says_in_words_why_a_rewrite_was_refused():
    view = widgets.before_after([REWRITE, {**REWRITE, "criterion": "honesty", "fault": "prompt leaked"}])
    assert "Used." in Tags(view.body.value).text
    assert "depth" in view.body.value
    view.controls["row"].value = 1
    text = Tags(view.body.value).text
    assert "Refused: prompt leaked. It is left out, so no pair can hold it." in text
    assert "honesty" in text
    assert "only before only after" in " ".join(text.split())


# --- ratings ------------------------------------------------------------------------------------------------------------


def test_a_rating_table_keeps_gaps_as_none():
    assert widgets.rating_table(RATED, "helpfulness") == [
        {
            "writer": "small",
            "completion": "Scattering.",
            "rating": 4.256,
            "P(1) to P(5)": [0.0, 0.1, 0.2, 0.3, 0.4],
            "rationale": "Right.",
        },
        {
            "writer": "large",
            "completion": "Because.",
            "rating": None,
            "P(1) to P(5)": None,
            "rationale": None,
        },
    ]
    with pytest.raises(InputError, match="There is: helpfulness, honesty"):
        widgets.rating_table(RATED, "speed")


def test_a_rating_table_bears_lists_that_are_too_short_or_missing():
    row = {"generations": ["a", "b"], "aspects": {"x": {"ratings": [1.0]}}}
    assert [line["rating"] for line in widgets.rating_table(row, "x")] == [1.0, None]


def test_the_rating_browser_switches_rows_and_aspects():
    view = widgets.rating_browser(
        [RATED, {**RATED, "instruction": "Second?", "aspects": {"honesty": RATED["aspects"]["honesty"]}}]
    )
    assert "4.26" in view.body.value
    assert "<img" in view.body.value
    view.controls["aspect"].value = "honesty"
    assert "4.26" not in view.body.value
    assert "<img" not in view.body.value
    view.controls["row"].value = 1
    assert "Second?" in view.body.value
    assert view.controls["aspect"].options == ("honesty",), "a row offers its own aspects"
    view.controls["row"].value = 0
    assert view.controls["aspect"].value == "honesty" and "helpfulness" in view.controls["aspect"].options


# --- judges -------------------------------------------------------------------------------------------------------------


def test_the_judge_bench_redraws_for_every_control():
    view = widgets.judge_bench({"a": judged(3.0), "b": judged(2.0)})
    pages = [view.body.value]
    assert "a rates the good answer above the worse one in 100% of 3 items" in Tags(pages[0]).text
    for control, value, said in [
        ("judge", "b", "b rates the good answer above the worse one in 0% of 3 items"),
        ("against", "off_topic", "above the off-topic one in 100%"),
        ("group by", "worse_kind", "0% are ties"),
    ]:
        view.controls[control].value = value
        pages.append(view.body.value)
        assert said in Tags(pages[-1]).text
    assert len(set(pages)) == 4
    assert Tags(view.static).text.count("off_topic") == 2


def test_the_judge_bench_offers_only_what_the_items_have():
    items = [{"category": "facts", "ratings": {"good": 2.0, "worse": 1.0}}]
    view = widgets.judge_bench({"a": items})
    assert view.controls["against"].options == ("worse",)
    assert view.controls["group by"].options == ("category",)


# --- pairs --------------------------------------------------------------------------------------------------------------


def test_pairs_at_keeps_what_the_pipeline_would_keep():
    result = widgets.pairs_at(PAIRS, 0, 0.9)
    assert [pair["prompt"] for pair in result["kept"]] == ["Q0", "Q1"]
    assert result["dropped"] == {"tie": 1, "missing rating": 1}
    assert widgets.pairs_at(PAIRS, 1, 0.9)["dropped"] == {
        "tie": 1,
        "missing rating": 1,
        "margin too small": 1,
    }
    assert len(widgets.pairs_at(PAIRS, 0, 0.1)["kept"]) == 0
    assert widgets.pairs_at([], 0, 0.9) == {"kept": [], "dropped": {}}


def test_pairs_at_judges_rows_anew_that_were_dropped_before():
    assert len(widgets.pairs_at([{**PAIRS[0], "drop_reason": "margin too small"}], 0, 0.9)["kept"]) == 1


def test_the_margin_slider_redraws_counts_and_examples():
    view = widgets.margin_slider(PAIRS)
    assert "2 of 4 rows give a pair. tie: 1, missing rating: 1" in Tags(view.body.value).text
    view.controls["min margin"].value = 3.05
    assert "0 of 4 rows give a pair" in Tags(view.body.value).text
    assert "(no rows)" in view.body.value
    view.controls["min margin"].value = 0.0
    view.controls["max similarity"].value = 0.5
    assert "2 of 4" in Tags(view.body.value).text


@pytest.mark.parametrize(
    "make", [widgets.before_after, widgets.rating_browser, widgets.margin_slider, widgets.judge_bench]
)
def test_widgets_refuse_nothing_at_all(make):
    with pytest.raises(InputError, match="There are no"):
        make({} if make is widgets.judge_bench else [])


@pytest.mark.parametrize("make", [widgets.before_after, widgets.rating_browser, widgets.margin_slider])
def test_widgets_name_the_columns_that_are_missing(make):
    with pytest.raises(InputError, match="Row 0 has no .*A row needs: instruction"):
        make([{"instruction": "x"}])


def test_rows_without_aspects_are_refused():
    with pytest.raises(InputError, match="aspect"):
        widgets.rating_browser([{**RATED, "aspects": {}}])


# --- labels -------------------------------------------------------------------------------------------------------------


def press(view, *names: str) -> str:
    for name in names:
        view.controls[name].click()
    return Tags(view.body.value).text


def test_labels_are_asked_one_by_one_and_a_new_kernel_goes_on(tmp_path):
    path = tmp_path / "new" / "labels.json"
    view = widgets.label_pairs(to_label(), path)
    assert "0 of 3 pairs are labelled." in press(view) and "a0 plain" in view.body.value
    assert widgets.read_labels(path) == {}
    assert "1 of 3" in press(view, "A") and "a1 plain" in view.body.value
    again = widgets.label_pairs(to_label(), path)
    assert "1 of 3" in press(again) and "a1 plain" in again.body.value
    assert "Go on with the next cell." in press(again, "no difference", "B")
    expected = {"0 plain": "A", "1 plain": "no difference", "2 plain": "B"}
    assert widgets.read_labels(path) == expected == json.loads(path.read_text())
    assert press(again, "A") == press(again) and widgets.read_labels(path) == expected


def test_back_takes_the_last_label_away(tmp_path):
    path = tmp_path / "labels.json"
    view = widgets.label_pairs(to_label(), path)
    assert "0 of 3" in press(view, "back")
    assert "1 of 3" in press(view, "A", "B", "back") and "a1 plain" in view.body.value
    assert widgets.read_labels(path) == {"0 plain": "A"}
    assert "3 of 3" in press(view, "B", "A") and "2 of 3" in press(view, "back")


def test_hostile_text_stays_text_while_labelling(tmp_path):
    path = tmp_path / "labels.json"
    view = widgets.label_pairs(to_label(HOSTILE), path)
    for _ in range(4):
        checked(view.body.value)
        press(view, "A")
    assert len(widgets.read_labels(path)) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"a": "C"}', '{"a": ["A"]}', "3", "\xff"])
def test_a_file_that_holds_no_labels_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "labels.json"
    path.write_bytes(content.encode("latin-1"))
    for refused in (widgets.read_labels, lambda path: widgets.label_pairs(to_label(), path)):
        with pytest.raises(InputError, match="holds no labels"):
            refused(path)
    assert path.read_bytes() == content.encode("latin-1")


def test_a_label_that_cannot_be_written_is_said_and_not_counted(tmp_path):
    (tmp_path / "file").write_text("")
    view = widgets.label_pairs(to_label(), tmp_path / "file" / "labels.json")
    assert "cannot be written" in press(view, "A")
    (tmp_path / "file").unlink()
    assert "1 of 3" in press(view, "B")
    assert widgets.read_labels(tmp_path / "file" / "labels.json") == {"0 plain": "B"}


@pytest.mark.parametrize(
    ("items", "reason"), [([], "There are no"), ([{"A": "x"}], "Row 0 has no instruction, id, B")]
)
def test_label_pairs_refuses_items_that_are_none(tmp_path, items, reason):
    with pytest.raises(InputError, match=reason):
        widgets.label_pairs(items, tmp_path / "labels.json")


# --- in Jupyter ---------------------------------------------------------------------------------------------------------

VIEW = "application/vnd.jupyter.widget-view+json"


def test_every_control_has_a_name_and_is_in_the_box():
    for view in views().values():
        assert all(view.controls)
        assert set(descendants(view.box)) >= {*view.controls.values(), view.body}


def descendants(box):
    yield box
    for child in getattr(box, "children", ()):
        yield from descendants(child)


def test_static_forms_are_text_and_the_same_each_time():
    """Pictures and model ids differ between machines and runs; what is stored with a notebook must not."""
    first, second = views(), views()
    for name in first:
        assert first[name].static == second[name].static
        assert repr(first[name]) == repr(second[name])
        assert "<img" not in first[name].static
        assert first[name].box.model_id not in first[name].static + repr(first[name])


def test_a_real_kernel_stores_all_forms_in_one_output_and_draws_figures():
    setup = (
        "from course_lib import plots, widgets\nfrom course_lib.llms import ScriptedLLM\n"
        "import matplotlib.pyplot as plt\nassert not plt.get_fignums()"
    )
    explorer = "widgets.completion_explorer({'a': ScriptedLLM(['<b>red</b>'])}, 'A colour?')"
    cells = [setup, explorer, "widgets.table([{'a': 1.0}])", "plots.where_we_are(1)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    root = Path(__file__).parents[1]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(root)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [len(one) for one in outputs] == [0, 1, 1, 1]
    data = [one[0].data for one in outputs[1:]]
    assert set(data[0]) == {"text/plain", "text/html", VIEW}
    assert data[0]["text/plain"].startswith(
        "Completions side by side. Run this cell to get the controls: instruction"
    )
    page = checked(data[0]["text/html"])
    assert page.text.startswith("Run this cell to get the controls.")
    assert "<b>red</b>" in page.text
    assert data[0][VIEW]["model_id"] in str(notebook.metadata.widgets)
    assert set(data[1]) == {"text/plain", "text/html"}
    assert set(data[2]) == {"text/plain", "image/png"}


def test_importing_widgets_loads_no_torch():
    code = "import sys, course_lib.widgets; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], timeout=60).returncode
        == 0
    )
