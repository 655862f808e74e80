"""The lessons in a real browser: JupyterLab on loopback, headless Chromium, every control of every widget.

Run by `make test-browser`, which brings Chromium; screenshots are kept in build/browser.
"""

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs playwright")
expect = playwright_api.expect

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
notebooks = importlib.import_module("notebooks")

PICTURES = ROOT / "build" / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
RUN_MS = 300_000
REDRAW_MS = 60_000
# Said by the debugger of JupyterLab, whatever the notebook.
# Colab's badge is a picture from the web, which a machine without a network does not get.
HARMLESS = re.compile(r"^Could not restore the debugger state:|/colab-badge\.svg$")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """JupyterLab over a copy of the lessons; results come from the recorded ones, what a control asks for anew is computed."""
    home, cache = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("browser-cache")
    for path in [*notebooks.lessons(), *(ROOT / "exercises").glob("0*.ipynb")]:
        _copy_without_outputs(path, home / path.parent.name / path.name)
    shutil.copy(Path(__file__).with_name("hostile.ipynb"), home)
    # Cells out of sight would not be drawn, and a dialog would stand before the page.
    _setting(home, "notebook-extension/tracker", {"windowingMode": "none", "autoStartDefaultKernel": True})
    _setting(home, "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False})
    notebooks.fill_cache(cache)
    notebooks.link_weights(cache)
    environment = {
        **os.environ,
        "COURSE_LIB_CACHE": str(cache),
        "COURSE_LIB_MODELS": "packaged",
        "HF_HUB_OFFLINE": "1",
    }
    port = _free_port()
    options = [
        f"--ServerApp.port={port}",
        "--ServerApp.token=",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={home}",
    ]
    options += [
        f"--LabApp.user_settings_dir={home / 'settings'}",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port_retries=0",
    ]
    log = (home / "lab.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", process, home / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _copy_without_outputs(path: Path, target: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, target)


def _setting(home: Path, name: str, values: dict) -> None:
    file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(address: str, process, log: Path) -> None:
    for _ in range(120):
        assert process.poll() is None, log.read_text()
        try:
            urlopen(address, timeout=2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, (
        f"No browser: none of {', '.join(BROWSERS)} is installed. `make test-browser` installs chromium on Debian."
    )
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def lab(server, browser, request):
    """A function that opens a notebook, runs all its cells and gives the page; an error on the console fails the test.

    `front_end`: "lab/tree" for JupyterLab, "notebooks" for Notebook 7, which the same server has.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(_located(message)) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def opened(place: str, front_end: str = "lab/tree"):
        page.goto(f"{server}/{front_end}/{place}?reset")
        page.locator(".jp-Notebook").wait_for(timeout=RUN_MS)
        run_all(page)
        if front_end == "notebooks":  # Notebook 7 complains about settings of JupyterLab while it starts
            errors.clear()
        return page

    yield opened
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{request.node.name}.png")
    page.close()
    assert [error for error in errors if not HARMLESS.search(error)] == []


def _located(message) -> str:
    """What the console says, and where: without its address, a file that is missing could be any."""
    return f"{message.text} {message.location['url']}"


def run_all(page) -> None:
    """Run all cells, again if JupyterLab loses the request, as it does while it still changes the kernel."""
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=RUN_MS)
    given_up = time.monotonic() + RUN_MS / 1000
    while not _ran(page, given_up):
        assert time.monotonic() < given_up, "The cells did not run."
    # A request that only seemed lost runs them a second time, and every output is replaced meanwhile.
    page.wait_for_timeout(1000)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=RUN_MS)
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


def _ran(page, given_up: float) -> bool:
    """Ask for all cells to be run; whether the last one was, or False once nothing runs any more."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    idle = 0
    while idle < 15 and time.monotonic() < given_up:
        page.wait_for_timeout(1000)
        prompts = [text.strip() for text in page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()]
        if prompts and all(re.fullmatch(r"\[\d+\]:", text) for text in prompts):
            return True
        idle = 0 if "[*]:" in prompts else idle + 1
    return False


def widget(page, control: str):
    """The box of the widget that has a control of this description."""
    return (
        page.locator(".jp-OutputArea-output .widget-vbox")
        .filter(has=page.get_by_text(control, exact=True))
        .first
    )


def move(box, slider: str, key: str, times: int = 1) -> None:
    handle = box.locator(".widget-slider").filter(has_text=slider).locator(".noUi-handle")
    handle.focus()
    for _ in range(times):
        handle.press(key)


def picture(box, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    box.screenshot(path=PICTURES / f"{name}.png")


def lesson(number: int) -> str:
    return f"notebooks/{notebooks.lessons()[number].name}"


def each_option(box, name: str) -> list[str]:
    return box.get_by_label(name, exact=True).locator("option").all_inner_texts()


def choose_row(box, option: str) -> None:
    """Choose a row, and wait until the words of its option stand in the first cell."""
    box.get_by_label("row", exact=True).select_option(option)
    words = re.sub(r"^\s*\d+\.\s+", "", option).rstrip("…").strip()
    expect(box.locator("td").first).to_contain_text(words[:30], timeout=REDRAW_MS)


def test_lesson_0_labels_are_counted_kept_and_taken_back(lab):
    page = lab(lesson(0))
    box = widget(page, "no difference")
    progress = box.locator("p").first
    expect(progress).to_have_text("0 of 10 pairs are labelled.")
    first = box.locator("table").last.inner_text()
    box.get_by_role("button", name="A", exact=True).click()
    expect(progress).to_have_text("1 of 10 pairs are labelled.", timeout=REDRAW_MS)
    assert box.locator("table").last.inner_text() != first
    box.get_by_role("button", name="back", exact=True).click()
    expect(progress).to_have_text("0 of 10 pairs are labelled.", timeout=REDRAW_MS)
    assert box.locator("table").last.inner_text() == first
    picture(box, "widget-0")
    for count in range(10):
        box.get_by_role("button", name=("A", "B", "no difference")[count % 3], exact=True).click()
        expect(progress).to_have_text(f"{count + 1} of 10 pairs are labelled.", timeout=REDRAW_MS)
    run_all(page)
    expect(widget(page, "no difference").locator("p").first).to_have_text("10 of 10 pairs are labelled.")
    expect(page.locator(".jp-Notebook")).to_contain_text("10 labels of your own")


def test_lesson_1_the_explorer_writes_what_its_controls_say(lab):
    page = lab(lesson(1))
    box = widget(page, "Write")
    before = box.locator("table").inner_text()
    box.get_by_label("instruction", exact=True).fill("Name a colour of the sea.")
    box.get_by_label("system prompt", exact=True).fill("You answer like a poet.")
    move(box, "temperature", "ArrowRight")
    move(box, "top-p", "ArrowLeft")
    box.get_by_label("seed", exact=True).fill("3")
    box.get_by_label("seed", exact=True).press("Tab")
    box.get_by_label("gemma-3-270m", exact=True).uncheck()
    box.get_by_role("button", name="Write", exact=True).click()
    expect(box).to_contain_text("temperature 0.80, top-p 0.95, seed 3", timeout=REDRAW_MS)
    expect(box.locator("th")).to_have_text(["smollm2-135m"])
    assert box.locator("table").inner_text() != before
    assert len(box.locator("td").inner_text()) > 3
    picture(box, "widget-1")
    box.get_by_label("smollm2-135m", exact=True).uncheck()
    box.get_by_role("button", name="Write", exact=True).click()
    expect(box.get_by_role("alert")).to_contain_text("Choose at least one", timeout=REDRAW_MS)


def test_lesson_2_every_rewrite_can_be_looked_at(lab):
    page = lab(lesson(2))
    box = widget(page, "row")
    options = each_option(box, "row")
    assert len(options) > 1
    for option in reversed(options):
        choose_row(box, option)
        expect(box.locator("tr").last).to_contain_text(re.compile("Used|Refused"))
    assert box.locator("del, ins").count() > 2
    picture(box, "widget-2")


def test_lesson_2_works_in_notebook_7(lab):
    page = lab(lesson(2), "notebooks")
    box = widget(page, "row")
    choose_row(box, each_option(box, "row")[-1])


def test_lesson_3_aspects_switch_and_the_distribution_is_drawn_anew(lab):
    page = lab(lesson(3))
    box = widget(page, "aspect")
    pictures = set()
    for aspect in each_option(box, "aspect"):
        box.get_by_label("aspect", exact=True).select_option(aspect)
        expect(box.locator("tr").nth(1).locator("td")).to_have_text(aspect, timeout=REDRAW_MS)
        if box.locator("img").count():
            pictures.add(box.locator("img").first.get_attribute("src"))
    assert len(pictures) > 1
    choose_row(box, each_option(box, "row")[-1])
    picture(box, "widget-3")


def test_lesson_4_each_judge_shows_its_accuracy_by_category(lab):
    page = lab(lesson(4))
    box = widget(page, "against")
    seen = set()
    for judge in each_option(box, "judge"):
        box.get_by_label("judge", exact=True).select_option(judge)
        expect(box.locator("p").first).to_contain_text(
            f"{judge} rates the good answer above the worse one", timeout=REDRAW_MS
        )
        seen.add(box.locator("img").get_attribute("src"))
    assert len(seen) == len(each_option(box, "judge"))
    box.get_by_label("against", exact=True).select_option("off_topic")
    expect(box.locator("p").first).to_contain_text("above the off-topic one", timeout=REDRAW_MS)
    for kind in each_option(box, "group by"):
        box.get_by_label("group by", exact=True).select_option(kind)
        expect(box.locator("img")).to_have_attribute(
            "alt", re.compile(f"Accuracy by {kind}"), timeout=REDRAW_MS
        )
    picture(box, "widget-4")


def test_lesson_5_a_larger_margin_keeps_fewer_pairs(lab):
    page = lab(lesson(5))
    box = widget(page, "min margin")
    said = box.locator("p").filter(has_text="rows give a pair").first

    def kept() -> int:
        return int(said.inner_text().split()[0])

    at_first = kept()
    assert at_first > 0
    move(box, "min margin", "ArrowRight", times=10)
    expect(said).not_to_contain_text(re.compile(rf"^{at_first} of"), timeout=REDRAW_MS)
    assert kept() < at_first
    picture(box, "widget-5")
    move(box, "min margin", "End")
    expect(said).to_contain_text(re.compile(r"^0 of \d+ rows give a pair"), timeout=REDRAW_MS)
    move(box, "min margin", "Home")
    expect(said).to_contain_text(re.compile(rf"^{at_first} of"), timeout=REDRAW_MS)
    # Whether any pair is that similar depends on what the models wrote; tests/test_widgets.py has rows that are.
    move(box, "max similarity", "Home")
    expect(box.locator(".widget-readout").nth(1)).to_have_text("0.50", timeout=REDRAW_MS)
    expect(said).to_contain_text(re.compile(r"^\d+ of \d+ rows give a pair"))
    assert kept() <= at_first


def test_hostile_text_is_shown_as_text_in_every_widget(lab):
    page = lab("hostile.ipynb")
    text = page.locator(".jp-Notebook").inner_text()
    assert text.count("<script>window.hacked = 1</script>") >= 6
    for label in ("row", "aspect", "judge"):
        for select in page.get_by_label(label, exact=True).all():
            options = select.locator("option").all_inner_texts()
            select.select_option(options[-1])
    page.wait_for_timeout(1000)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror]").count() == 0
    picture(page.locator(".jp-Notebook"), "hostile")


@pytest.mark.parametrize("number", range(1, 6))
def test_an_untouched_exercise_runs_in_the_browser(lab, number):
    page = lab(f"exercises/{notebooks.lessons()[number].name}")
    expect(page.locator(".jp-CodeCell").last).to_contain_text(re.compile(r"0 of \d+ correct"))


def test_the_hostile_notebook_has_every_widget():
    sources = "\n".join(
        cell.source for cell in nbformat.read(Path(__file__).with_name("hostile.ipynb"), as_version=4).cells
    )
    for name in (
        "completion_explorer",
        "before_after",
        "rating_browser",
        "judge_bench",
        "margin_slider",
        "label_pairs",
        "table(",
    ):
        assert name in sources
