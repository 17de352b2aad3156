"""The page of a study: what it says, what it must not say, and how it behaves in a browser
(headless Chromium, driven by selenium)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.results import study
from PIL import Image

from medbench import Store, UserError
from medbench.report import html, leaderboard
from medbench.report.figures.line_selection import baseline
from medbench.report.html import svg_parts
from medbench.report.html.elements import escaped, tag
from medbench.run.command_line import command
from medbench.schema import Cell, Grid, Mark, PlanFile, PlannedCell, parsed, placeless

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = """</script><script>window.hit=1</script><img src=x onerror="window.hit=1">'"&amp;"""


class Read(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, markup: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words, self.inside = "", ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        self.words += "" if self.inside in ("style", "script") else data + " "


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two binary tasks, three methods; one more line that failed, with a path in its reason."""
    store = study(tmp_path_factory.mktemp("secret-place") / "out", tasks=2)
    cell = Cell("task0", "T", "broken", "imagenet", "net", "pool", 64, 0, "linear", "100%", 0)
    planned = PlannedCell(cell, "0" * 64, 100, "s", "target0")
    store.add_plan(
        PlanFile((planned,), {}, (command(Grid(tasks=("task0",), data="/home/ann/data")),))
    )
    store.fail(planned, "FileNotFoundError: '/home/ann lee/ward 7/net.pth' is gone")
    return store


@pytest.fixture(scope="module")
def markup(store: Store) -> str:
    return html.build_page([store])


def test_it_says_what_the_tables_say(store: Store, markup: str) -> None:
    words = Read(markup).words
    for board in leaderboard.leaderboards(store):
        for line in board.lines:
            if line.complete:
                s = line.summary("auc")
                assert f"{s.mean:.3f}" in words and f"[{s.low:.3f}, {s.high:.3f}]" in words
    for part in (
        "The answer",
        "Leaderboard",
        "Verdicts",
        "Across tasks",
        "Calibration",
        "Cost",
        "Provenance",
        "Methods text",
    ):
        assert f">{part}</h2>" in markup
    assert "sim$clr is better than random" in " ".join(words.split())
    assert "a difference within 0.01" in words.lower()
    assert "failed 1 of 1" in words and "no answer yet" in words, "missing is shown as missing"
    assert "medbench run --task task0 --labels 1,10,100 --seeds auto --data DATA" in words


def test_it_holds_no_place_no_patient_and_no_date(store: Store, markup: str) -> None:
    assert "secret-place" not in markup and str(store.folder) not in markup
    assert (
        "/home" not in markup
        and "ann lee" not in Read(markup).words
        and "'net.pth' is gone" in Read(markup).words
    )
    assert not re.search(r"20\d\d-\d\d-\d\d", markup)
    store = study(store.folder.parent / "named")
    np.savez(
        store.folder / "targets" / "target0.npz",
        ids=[f"IMG{i}" for i in range(240)],
        labels=np.arange(240) % 2,
        groups=["PAT77"] * 240,
    )
    made = html.build_page([store])
    assert "PAT77" not in made and "IMG1" not in made


def test_it_stands_alone(markup: str) -> None:
    """Nothing is loaded: no address but of names, and a policy that forbids all but the page's own
    style and script."""
    read = Read(markup)
    loaded = [
        value
        for tag, held in read.tags
        for name, value in held.items()
        if name in ("src", "href", "action", "srcset", "data") and value
    ]
    assert all(value.startswith(("#", "data:")) for value in loaded), loaded
    assert not any(
        name.startswith("on") or name == "style" for _, held in read.tags for name in held
    )
    policy = next(
        held["content"]
        for tag, held in read.tags
        if tag == "meta" and held.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy and policy.startswith("default-src 'none'") and "unsafe" not in policy
    ids = [held["id"] for _, held in read.tags if "id" in held]
    assert len(ids) == len(set(ids))
    named = {
        value
        for tag, held in read.tags
        for name, value in held.items()
        if name == "href" and value and value.startswith("#")
    }
    assert {value[1:] for value in named} <= set(ids)


def test_the_same_results_give_the_same_bytes(store: Store, markup: str) -> None:
    assert html.build_page([store]) == markup
    assert html.build_page([store], processes=2) == markup


def test_every_picture_has_words(markup: str) -> None:
    for tag_, held in Read(markup).tags:
        if tag_ == "svg":
            assert held.get("aria-hidden") == "true" or (
                held.get("role") == "img" and held.get("aria-label")
            )


def test_figures_show_the_tables_numbers(store: Store, markup: str) -> None:
    """Places of the curves' marks, read back by the axis' own ticks, are the means of the
    leaderboard; black follows the page's ink."""
    board = leaderboard.leaderboards(store)[0]
    drawn = re.findall(r"<figure>.*?</figure>", markup, re.S)[0]
    ticks = re.findall(r'<text x="38" y="([\d.]+)"[^>]*>([\d.]+)</text>', drawn)
    (y0, v0), *_, (y1, v1) = [(float(y) - 3.5, float(v)) for y, v in ticks]
    svg = drawn.partition("<ul")[0]
    marks = [float(y) for y in re.findall(r'transform="translate\([\d.]+ ([\d.]+)\)" fill=', svg)]
    read = [v0 + (y - y0) / (y1 - y0) * (v1 - v0) for y in marks]
    names = list(dict.fromkeys(line.name for line in board.lines if line.complete))
    means = [
        line.summary("auc").mean for name in names for line in board.lines if line.name == name
    ]
    assert read == pytest.approx(means, abs=0.002)
    assert all(' fill="' in path for path in re.findall(r"<path[^>]*>", svg))
    assert 'fill="currentColor"' in svg and "#000000" not in svg


def test_of_many_lines_a_figure_shows_the_best_and_says_so(tmp_path: Path) -> None:
    store = study(tmp_path / "out", methods=("supervised", *(f"m{i:02d}" for i in range(11))))
    made = html.build_page([store])
    curves, cost, _, calibration = re.findall(r"<figure>.*?</figure>", made, re.S)
    for figure in (curves, cost, calibration):
        assert (
            "8 of 12 lines: the best with the most labels, and the supervised baseline." in figure
        )
        assert figure.count("<li>") == (0 if figure is curves else 8)
    names = re.findall(r'font-size="11"[^>]*>(supervised|m\d\d)</text>', curves)
    assert len(set(names)) == len(names) == 8 and "supervised" in names, (
        "each line is named at its end"
    )


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (0.61, 0.97, False),
        (0.1234, 0.1239, False),
        (0, 1, False),
        (-0.2, 0.3, False),
        (0.45, 0.96, False),
        (3, 41, True),
        (3, 4, True),
        (1500, 4200, True),
        (6, 18, True),
    ],
)
def test_an_axis_has_round_ticks_inside(low: float, high: float, log: bool) -> None:
    axis = svg_parts.Axis(low, high, 0, 100, log)
    ticks = axis.ticks()
    assert 4 <= len(ticks) <= 8 and all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert [float(name.replace(",", "")) for _, name in ticks] == pytest.approx(
        [value for value, _ in ticks], abs=1e-12
    )
    assert (axis.at(low), axis.at(high)) == (0, 100)


def test_labels_are_saved_against_the_baseline_that_the_curve_shows(tmp_path: Path) -> None:
    """Of two supervised lines the better one, though the plan names the other first."""
    store = study(tmp_path / "out", methods=("supervised", "simclr"), protocols=("knn", "linear"))
    (board,) = leaderboard.leaderboards(store)
    base = baseline(board, "auc")
    assert base is not None and (base.cell.method, base.cell.protocol) == ("supervised", "linear")
    saved = html.build_page([store]).partition("Labels saved")[2].partition("</ul>")[0]
    named = [
        f"{method} {protocol} at 100%"
        for method in ("supervised", "simclr")
        for protocol in ("knn", "linear")
    ]
    assert [name for name in named if name in saved] == ["supervised linear at 100%"]


def test_a_table_of_one_line_says_which(tmp_path: Path) -> None:
    markup = html.build_page(
        [study(tmp_path, methods=("random", "supervised"), protocols=("linear", "knn"))]
    )
    assert {"task0 (T), test: supervised knn at 100% labels"} == set(
        re.findall(r"[^<>]* at 100% labels(?=<)", markup)
    )


def test_loud_marks_and_audit(tmp_path: Path) -> None:
    store = study(tmp_path / "out")
    record = parsed((store.folder / "plan.json").read_text())
    about = record["tasks"]["task0|T|test"]
    about["marks"] = ["LEAK: 3 patients are in both train and test"]
    (store.folder / "plan.json").write_text(json.dumps(record))
    made = html.build_page([store])
    assert "<b>LEAK</b>: 3 patients are in both train and test" in made
    assert "Audit" not in made, "no audit was made"
    about["audit"] = ["7 near-duplicates <between> parts"]
    (store.folder / "plan.json").write_text(json.dumps(record))
    assert "<li>7 near-duplicates &lt;between&gt; parts</li>" in html.build_page([store])
    about["audit"] = []
    (store.folder / "plan.json").write_text(json.dumps(record))
    said = html.build_page([store]).partition('<section id="audit"')[2].partition("</section>")[0]
    assert "3 patients are in both" in said and "Nothing was found" not in said
    leak, grey = "2 of 9 images of test are also in train", "1 of 9 images is of a single colour"
    about["marks"] = [asdict(Mark("leak", f"{leak} (audit)")), asdict(Mark("blank", grey))]
    about["audit"] = [asdict(Mark("leak", leak)), asdict(Mark("look", grey))]
    (store.folder / "plan.json").write_text(json.dumps(record))
    said = html.build_page([store]).partition('<section id="audit"')[2].partition("</section>")[0]
    assert said.count(leak) == said.count(grey) == 1, "each fault once"


def test_words_of_a_person_are_text() -> None:
    assert (
        tag("td", HOSTILE, title='" onclick="x')
        == f'<td title="&quot; onclick=&quot;x">{escaped(HOSTILE)}</td>'
    )
    assert "<" not in escaped(HOSTILE)
    for said, shown in (
        ("[Errno 2] No such file: '/home/ann lee/x y.pth'", "[Errno 2] No such file: 'x y.pth'"),
        (r"C:\Users\ann\x.png is gone", "x.png is gone"),
        ("~/mine/x.py:net", "x.py:net"),
        ("file:///srv/data/a.png", "a.png"),
        (
            "5/class, and/or, doi:10.1038/sdata.2018.161, 1/2",
            "5/class, and/or, doi:10.1038/sdata.2018.161, 1/2",
        ),
    ):
        assert placeless(said) == shown


def test_the_command_names_no_place() -> None:
    grid = Grid(
        tasks=("folder:/home/ann/moles", "derm"),
        labels=("5/class", "all"),
        encoders=("/home/ann/net.py:make",),
        allow_leak=True,
        audit=False,
    )
    expected = "medbench run --task folder:moles --task derm --labels 5/class,all --seeds auto --encoder net.py:make --allow-leak --no-audit"
    assert command(grid) == expected


def test_bad_input(
    store: Store, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(store.folder)
    for arguments, said in (
        (["--metric", "aux"], "Did you mean 'auc'"),
        (["--margin", "1.5"], "A margin lies from 0 to 1"),
        (["--data", "x"], "--data is only for --images"),
        (["--out", str(tmp_path)], "is a folder"),
        (["--images"], "Unknown task 'task"),
    ):
        assert medbench("report", folder, *arguments) == 2
        assert said in capsys.readouterr().err
    assert medbench("report", str(tmp_path)) == 2
    empty = Store(tmp_path / "empty")
    empty.create()
    empty.add_plan(PlanFile())
    with pytest.raises(UserError, match="Nothing was planned"):
        html.build_page([empty])
    assert medbench("report", folder, "--out", "new/page.html", "--metric", "accuracy") == 0
    assert "has the best accuracy" in (tmp_path / "new" / "page.html").read_text()


def test_an_unfinished_run_has_a_page(tmp_path: Path) -> None:
    store = study(tmp_path / "out")
    (store.folder / "rows.jsonl").write_text("")
    assert "no answer yet" in html.build_page([store])


def test_the_page_does_without_torch(without_torch: Callable[..., str], tmp_path: Path) -> None:
    folder = study(tmp_path / "out").folder
    without_torch("report", str(folder))
    assert (folder / "report.html").exists()


# In a browser
# ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    quiet = ("background-networking", "component-update", "sync", "gpu")
    for argument in (
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        *(f"--disable-{name}" for name in quiet),
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def look(
    browser: Any, file: Path, *, width: int = 1280, dark: bool = False, script: bool = True
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(file.as_uri())


def column(browser: Any, name: str) -> list[str]:
    script = """
const heads = [...document.querySelectorAll("#board thead th")].map((head) => head.textContent.trim());
return [...document.querySelectorAll("#board tbody tr")].map((row) => row.cells[heads.indexOf(arguments[0])].textContent.trim());
"""
    found: list[str] = browser.execute_script(script, name)
    return found


def press(browser: Any, name: str) -> None:
    """With the keyboard: a heading is a button."""
    from selenium.webdriver.common.by import By

    for button in browser.find_elements(By.CSS_SELECTOR, "#board thead button"):
        if button.text == name:
            button.send_keys("\n")


def test_in_chromium_it_sorts_filters_and_asks_for_nothing(
    browser: Any, markup: str, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    (tmp_path / "page.html").write_text(markup)
    look(browser, tmp_path / "page.html")
    assert len(column(browser, "method")) == 13
    press(browser, "AUC")
    numbers = [float(value) for value in column(browser, "AUC") if value != "–"]
    assert (
        len(numbers) == 12
        and numbers == sorted(numbers, reverse=True)
        and column(browser, "AUC")[-1] == "–"
    ), "missing stands last"
    press(browser, "AUC")
    assert [float(value) for value in column(browser, "AUC") if value != "–"] == sorted(
        numbers
    ) and column(browser, "AUC")[-1] == "–"
    press(browser, "labels")
    assert column(browser, "labels") == ["100%"] * 7 + ["10%"] * 6, "by number, not by letter"
    press(browser, "method")
    assert column(browser, "method") == sorted(column(browser, "method"))
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-column=labels]")).select_by_value(
        "10%"
    )
    assert set(column(browser, "labels")) == {"10%"} and len(column(browser, "labels")) == 6
    find = browser.find_element(By.ID, "find")
    find.send_keys("SIM$ task1")
    assert (
        column(browser, "method") == ["sim$clr"]
        and browser.find_element(By.ID, "count").text == "1 line"
    )
    find.send_keys("\n")
    assert browser.current_url.endswith("page.html"), "Enter sends nothing"
    browser.find_element(By.CSS_SELECTOR, "button[data-copy=bibtex]").click()
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    # the browser's own first tab may still be loading
    asked = [url for url in asked if not url.startswith(("data:", "chrome:"))]
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert browser.get_log("browser") == []


def test_in_chromium_it_fits_a_phone_and_the_dark(
    browser: Any, markup: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(markup)
    for width in (390, 1280):
        for dark in (False, True):
            look(browser, tmp_path / "page.html", width=width, dark=dark)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            ink, paper = browser.execute_script(
                "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
            )
            light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
            assert (light[0] > light[1] + 300) == dark and abs(light[0] - light[1]) > 300
            axis = browser.execute_script(
                "return getComputedStyle(document.querySelector('figure svg text')).fill"
            )
            assert axis == ink, "the figures' words follow the page"
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
        )
        wide = browser.execute_script(
            "return [...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)"
        )
        assert max(wide) <= 718, "what stands beyond A4 without its margins is cut"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.get_log("browser") == []


def test_in_chromium_without_script_it_is_a_plain_table(
    browser: Any, markup: str, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By

    (tmp_path / "page.html").write_text(markup)
    look(browser, tmp_path / "page.html", script=False)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#board tbody tr")) == 13
    assert not browser.find_element(By.ID, "filters").is_displayed() and not browser.find_elements(
        By.CSS_SELECTOR, "#board button"
    )


def test_in_chromium_hostile_names_of_a_real_folder_stay_words(
    browser: Any, medbench: Callable[..., int], tmp_path: Path
) -> None:
    """Class names, the folder's and a column's name as an attacker would choose them, run, reported
    with images; a method's put into the rows."""
    mine = tmp_path / "<img src=x onerror=window.hit=1>"
    mine.mkdir()
    rng, lines = np.random.default_rng(0), ["path,label,split,<svg onload=window.hit=1>"]
    classes = [HOSTILE, "<svg onload=window.hit=1>"]
    for i in range(24):
        name = f"'\"><script>window.hit=1<{chr(8260)}script>{i}.png"
        Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(mine / name)
        quoted = [
            field.replace('"', '""')
            for field in (name, classes[i % 2], "train" if i < 16 else "test", "<b>")
        ]
        lines.append(",".join(f'"{field}"' for field in quoted))
    (mine / "list.csv").write_text("\n".join(lines) + "\n")
    task = f"folder:{mine / 'list.csv'}"
    assert (
        medbench(
            "run",
            "--task",
            task,
            "--methods",
            "random",
            "--labels",
            "all",
            "--seeds",
            "1",
            "--size",
            "32",
            "--out",
            "out",
        )
        == 0
    )
    for name in ("rows.jsonl", "plan.json"):
        record = json.dumps(parsed((tmp_path / "out" / name).read_text())).replace(
            '"random"', json.dumps(HOSTILE)
        )
        (tmp_path / "out" / name).write_text(f"{record}\n")
    assert (
        medbench(
            "report", "out", "--images", "--data", str(mine / "list.csv"), "--out", "page.html"
        )
        == 0
    )
    made = (tmp_path / "page.html").read_text()
    assert str(tmp_path) not in made and "data:image/jpeg;base64," in made
    look(browser, tmp_path / "page.html")
    assert browser.execute_script("return window.hit") is None
    assert browser.execute_script("return document.scripts.length") == 1
    assert HOSTILE in column(browser, "method")
    assert browser.get_log("browser") == []
