"""The report in the system's Chromium: it sorts, filters, shows values, leads to files, and asks for nothing."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_plots import made_up, over_classes

from bench.analysis import report
from bench.analysis.page import PRINTED_COLUMNS
from bench.core import Result
from bench.execution import store

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
HOSTILE = [
    "<script>alert(1)</script>",
    "${alert(1)}",
    "w" * 200,
    "שלום\u202eabc",
    "</script><img src=x onerror=alert(1)>",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)


class Opened:
    """A page, and all that it complained of, asked for, or opened."""

    def __init__(self, browser: Any, path: Path, address: str = "", **options: Any) -> None:
        self.path = path
        self.page = browser.new_context(**options).new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self._asked(request.url))
        self.requests: list[str] = []
        self.page.goto(f"{path.as_uri()}#{address}" if address else path.as_uri())
        self.page.set_default_timeout(20_000)

    def _asked(self, url: str) -> None:
        if not url.startswith("data:"):
            self.requests.append(url)

    def rows(self, place: str = "#b0 ~ .scroll") -> list[str]:
        """The methods that a table shows, in its order."""
        names = self.page.locator(f"{place} tbody tr:visible th").all_inner_texts()
        return [name.strip() for name in names]


def results() -> list[Result]:
    """Three methods under two protocols, of which one has a single seed."""
    found = []
    for method, lost, seeds in (("middle", 0.05, 2), ("best", 0.02, 2), ("worst", 0.09, 1)):
        for seed in range(seeds):
            own = made_up(seed, 3, method, lost, report=method == "best")
            found += [own, replace(own, cell=replace(own.cell, protocol="sound"))]
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for result in results():
        store.save_result(result, folder)
    report.write_report(
        folder / "report.html", report.with_gaps(results(), [], {}), [0, 1], ["acc", "bwt"], folder=folder
    )
    return folder / "report.html"


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    found = Opened(browser, path, viewport={"width": 1300, "height": 900})
    yield found
    assert found.trouble == []
    found.page.context.close()


def test_it_asks_for_nothing_but_itself(opened: Opened, path: Path) -> None:
    assert opened.requests == [path.as_uri()]
    assert opened.page.locator("figure svg .series").count() > 10


def test_a_click_sorts_and_another_turns_round(opened: Opened) -> None:
    first = opened.rows()
    head = opened.page.locator("#b0 ~ .scroll th", has_text="ACC").locator("button")
    head.click()
    assert opened.rows() == ["best", "middle", "worst"] != first
    head.press("Enter")
    assert opened.rows() == ["worst", "middle", "best"]
    assert opened.page.locator("th[aria-sort=ascending]").count() == 1


def test_what_has_no_number_is_sorted_last(browser: Any, tmp_path: Path) -> None:
    pairs = report.with_gaps([result for result in results() if result.cell.seed == 0], ["absent"], {})
    report.write_report(tmp_path / "page.html", pairs, [0], ["acc"])
    opened = Opened(browser, tmp_path / "page.html")
    orders = []
    for _ in range(2):
        opened.page.locator("main .scroll").first.locator("th button", has_text="ACC").first.click()
        orders.append(opened.rows("main .scroll:has([data-row=absent])"))
    assert orders == [["best", "middle", "worst", "absent"], ["worst", "middle", "best", "absent"]]
    opened.page.context.close()


def test_the_filter_and_the_switches_hold_for_tables_and_figures(opened: Opened) -> None:
    opened.page.fill("[name=words]", "BEST wor")
    assert sorted(opened.rows()) == ["best", "worst"]
    shown = opened.page.locator("#b0 ~ .figures [data-chart=average] .series").evaluate_all(
        "nodes => nodes.map(node => node.dataset.row)"
    )
    assert sorted(shown) == ["best", "worst"]
    assert opened.page.locator("section[data-of]:visible").count() == 2
    opened.page.select_option("[name=protocol]", "sound")
    assert opened.page.locator("section[data-of]:visible h2").all_inner_texts() == ["stream (sound)"]
    assert opened.page.locator("thead th[scope=colgroup]:visible").all_inner_texts() == ["stream (sound)"]
    assert opened.page.locator("output").inner_text() == "2 of 3 methods, 1 of 2 settings"


def test_a_pointer_and_the_arrow_keys_show_values(opened: Opened) -> None:
    svg = opened.page.locator("#b0 ~ .figures [data-chart=average] svg")
    svg.scroll_into_view_if_needed()
    tip = opened.page.locator("#tip")
    assert not tip.is_visible()
    svg.locator(".series[data-row=best] path[transform]").last.hover()
    assert tip.inner_text() == "best: 88.5 ± 0.71 % after task 3 (n=2)"
    assert svg.get_attribute("class") == "dim"
    opened.page.mouse.move(2, 2)
    assert not tip.is_visible()
    svg.focus()
    opened.page.keyboard.press("ArrowRight")
    assert tip.inner_text() == "middle: 90.5 ± 0.71 % after task 1 (n=2)"
    opened.page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_a_reader_switches_the_scenario_and_looks_at_the_confusion(browser: Any, tmp_path: Path) -> None:
    runs = [over_classes(0, name) for name in ("best", "worst")] + [made_up(0, 2, "best")]
    runs[1].tasks[1]["confusion"] = [[0.25, 0.75], [0, 1]]
    report.write_report(tmp_path / "page.html", report.with_gaps(runs, [], {}), [0])
    opened = Opened(browser, tmp_path / "page.html")
    page = opened.page
    drawings = page.locator("[data-chart=confusion]")
    assert [figure.is_visible() for figure in drawings.all()] == [True, False]
    page.select_option("[name=scenario]", "class-il")
    assert page.locator("section[data-of]:visible h2").all_inner_texts() == ["stream (class-il)"]
    assert page.locator("section[data-scenario]:visible h3").first.inner_text() == "Protocol published, class-il"
    svg = drawings.first.locator("svg").first
    assert svg.locator("rect").count() == 4 and "60.0" in str(svg.text_content())
    drawings.first.locator("select").select_option("worst")
    assert "75.0" in str(svg.text_content()) and page.url.endswith("#scenario=class-il&b0-confusion=worst")
    svg.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text() == "worst: 75 % of the images of task 1 taken for a class of task 2"
    page.fill("[name=words]", "worst")
    page.get_by_text("as a table").first.click()
    rows = page.locator("details:has-text('as a table') tbody tr:visible").all_inner_texts()
    assert [row.split() for row in rows] == [["worst", "1", "25.0", "75.0"], ["worst", "2", "0.0", "100.0"]]
    assert opened.trouble == []
    page.context.close()


def view_of(opened: Opened) -> dict[str, Any]:
    """What a reader sees: the methods in their order, the sections, what is drawn of the first, and what is chosen."""
    curves = opened.page.locator("#b1 ~ .figures [data-chart=average] .series")
    matrix = opened.page.locator("#b1 ~ .figures [data-chart=matrix] select")
    return {
        "rows": opened.rows("#b1 ~ .scroll"),
        "sections": opened.page.locator("section[data-of]:visible h2").all_inner_texts(),
        "curves": curves.evaluate_all("nodes => nodes.map(node => node.dataset.row)"),
        "matrix": matrix.input_value(),
        "target": opened.page.locator(":target").evaluate_all("nodes => nodes.map(node => node.id)"),
    }


def test_the_view_is_in_the_address(opened: Opened, browser: Any) -> None:
    """It survives a reload, another window, and the way back; what it began with is an address without a view."""
    page = opened.page
    began = view_of(opened)
    page.select_option("[name=protocol]", "sound")
    page.fill("[name=words]", "best, worst")
    page.locator("#b1 ~ .scroll th", has_text="ACC").locator("button").click(click_count=2)
    page.locator("#b1 ~ .key button[data-row=best]").click()
    page.select_option("#b1 ~ .figures [data-chart=matrix] select", "worst")
    page.locator("tr[data-row=worst] td[data-of='1'] a").first.click()
    seen, address = view_of(opened), page.url
    target = seen["target"]
    chosen = {"rows": ["worst", "best"], "sections": ["stream (sound)"], "curves": ["worst"], "matrix": "worst"}
    assert seen == chosen | {"target": target} and target[0].startswith("b1r")
    page.reload()
    assert page.url == address and view_of(opened) == seen
    other = Opened(browser, opened.path, address=address.partition("#")[2])
    assert view_of(other) == seen
    assert other.page.input_value("[name=words]") == "best, worst" and other.trouble == []
    other.page.context.close()
    page.evaluate("location.hash = 'legend'")
    assert view_of(opened) == seen | {"target": ["legend"]} and "place=legend" in page.url
    page.go_back()
    assert view_of(opened) == seen and page.url == address
    page.reload()
    page.locator("#b1 ~ .key button[data-row=best]").click()
    page.fill("[name=words]", "")
    page.select_option("[name=protocol]", "")
    page.select_option("#b1 ~ .figures [data-chart=matrix] select", "best")
    assert view_of(opened) == began | {"rows": ["worst", "middle", "best"], "target": target}


@pytest.mark.parametrize("address", ["legend", "nowhere", "%", "a=b&sort=99+99+up&sort=x&without=nobody&protocol=none"])
def test_an_address_of_something_else_shows_all(browser: Any, path: Path, address: str) -> None:
    opened, plain = Opened(browser, path, address=address), Opened(browser, path)
    assert view_of(opened) == view_of(plain) | {"target": ["legend"] if address == "legend" else []}
    assert opened.trouble == [] and opened.page.url.partition("#")[2] == ("legend" if address == "legend" else "")
    for page in (opened, plain):
        page.page.context.close()


def test_a_number_leads_to_its_runs_and_these_to_their_files(opened: Opened) -> None:
    opened.page.locator("tr[data-row=best] td a").first.click()
    row = opened.page.locator("tr:target")
    assert row.get_attribute("data-row") == "best"
    row.locator(".runs a", has_text="1").click()
    opened.page.wait_for_url("**/stream/best/seed1-*.json")
    stored = json.loads(opened.page.locator("body").inner_text())
    assert (stored["cell"]["method"], stored["cell"]["seed"]) == ("best", 1)


def test_a_reader_chooses_the_reference_the_cost_and_the_matrix(opened: Opened) -> None:
    def texts(chart: str) -> str:
        return str(opened.page.locator(f"#b0 ~ .figures [data-chart={chart}] svg").text_content())

    assert "ACC minus that of best" in texts("difference")
    opened.page.select_option("#b0 ~ .figures [data-chart=difference] select", "middle")
    assert "ACC minus that of middle" in texts("difference") and "−" in texts("difference")
    front = opened.page.locator("#b0 ~ .figures .front")
    assert str(front.get_attribute("d")).count("L") == 1  # from the fastest to the most accurate, past the middle
    opened.page.select_option("#b0 ~ .figures [data-chart=trade] select", "BWT (points)")
    assert "BWT (points)" in texts("trade") and front.count() == 0  # one method is best in both
    assert "90.5" in texts("matrix") and "86.5" in texts("matrix")
    opened.page.select_option("#b0 ~ .figures [data-chart=matrix] select", "worst")
    assert "72.0" in texts("matrix")


def test_figures_and_tables_are_saved(opened: Opened, tmp_path: Path) -> None:
    figure = opened.page.locator("#b0 ~ .figures [data-chart=average]")
    with opened.page.expect_download() as waiting:
        figure.get_by_text("SVG", exact=True).click()
    waiting.value.save_as(tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert waiting.value.suggested_filename == "stream-average.svg"
    assert svg.startswith("<svg") and "xmlns=" in svg and "<title>Mean accuracy" in svg and "var(" not in svg
    with opened.page.expect_download() as waiting:
        opened.page.locator("#b0 ~ .links a", has_text="CSV").first.click()
    waiting.value.save_as(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("benchmark,method,metric,mean,sd")


@pytest.mark.parametrize("width", [390, 1300])
def test_hostile_names_are_text(browser: Any, tmp_path: Path, width: int) -> None:
    runs = []
    for name in HOSTILE:
        for seed in range(2):
            own = made_up(seed, 3, name)
            runs.append(replace(own, cell=replace(own.cell, benchmark=HOSTILE[width % 5])))
    report.write_report(tmp_path / "page.html", report.with_gaps(runs, [], {}), [0, 1])
    opened = Opened(browser, tmp_path / "page.html", viewport={"width": width, "height": 800})
    assert opened.trouble == [] and len(opened.requests) == 1
    names = opened.rows()
    assert [name for name in HOSTILE if name.isprintable() and name not in names] == [] and len(names) == len(HOSTILE)
    assert opened.page.locator("main script, main img, svg script").count() == 0
    keys = opened.page.locator(".key button").evaluate_all("nodes => nodes.map(node => node.title)")
    assert keys == names
    for key in opened.page.locator(".key button").all():
        key.hover()
    opened.page.locator("#b0 ~ .figures [data-chart=average] svg").press("ArrowRight")
    assert opened.page.locator("#tip").inner_text().startswith(names[0])
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.context.close()


def test_many_methods_are_told_apart(browser: Any, tmp_path: Path) -> None:
    runs = [made_up(0, 3, f"m{k}", 0.01 + k / 500, report=False) for k in range(28)]
    report.write_report(tmp_path / "page.html", report.with_gaps(runs, [], {}), [0])
    opened = Opened(browser, tmp_path / "page.html", viewport={"width": 1300, "height": 900})
    looks = opened.page.locator(".key button svg").evaluate_all("nodes => nodes.map(node => node.innerHTML)")
    assert len(looks) == len(set(looks)) == 28
    labels = opened.page.locator("[data-chart=average] .series > text").all_text_contents()
    assert sorted(labels) == sorted(f"m{k}" for k in range(28))
    opened.page.context.close()


def test_ranks_over_three_benchmarks_are_drawn(browser: Any, tmp_path: Path) -> None:
    runs = []
    for benchmark in "abc":
        for k in range(5):
            own = made_up(0, 3, f"m{k}", 0.01 * k, report=False)
            runs.append(replace(own, cell=replace(own.cell, benchmark=benchmark)))
    report.write_report(tmp_path / "page.html", report.with_gaps(runs, [], {}), [0])
    opened = Opened(browser, tmp_path / "page.html")
    words = opened.page.locator("[data-chart=ranks] svg text").all_text_contents()
    assert {f"m{k}" for k in range(5)} <= set(words) and words.count(
        "critical difference 3.522"
    ) == 1  # 2.728 sqrt(5 * 6 / (6 * 3))
    bars = opened.page.locator("[data-chart=ranks] svg path[stroke-width='3']")
    assert bars.count() == 2  # only the first and the last of five differ
    assert opened.trouble == []
    opened.page.context.close()


def on_mnist(method: str, **changes: Any) -> Result:
    """A run that papers print a number for."""
    own = made_up(0, 3, method, report=False)
    return replace(own, cell=replace(own.cell, benchmark="permuted_mnist", scenario="domain-il", **changes))


def write(path: Path, runs: list[Result], **options: Any) -> Path:
    report.write_report(path / "page.html", report.with_gaps(runs, [], {}), [0], **options)
    return path / "page.html"


def test_the_verdict_is_seen_and_another_budget_is_folded_away(browser: Any, tmp_path: Path) -> None:
    runs = [on_mnist("gpm"), on_mnist("ewc", overrides={"epochs": (5, 1)}), made_up(0, 3, "gpm", report=False)]
    opened = Opened(browser, write(tmp_path, runs), viewport={"width": 1440, "height": 900})
    table = opened.page.locator("#published + .part .scroll")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth"), "no column is cut off"
    heads = table.locator("th").all_inner_texts()
    assert heads.index("verdict") == heads.index("ours") + 1
    folded = opened.page.locator("details:has(.words):has-text('another budget than')")
    assert not folded.locator("table").is_visible()
    opened.page.fill("input[name=words]", "gpm")
    assert table.is_visible() and not folded.is_visible()
    opened.page.fill("input[name=words]", "ewc")
    assert not table.is_visible() and folded.is_visible()
    opened.page.fill("input[name=words]", "")
    opened.page.select_option("select[name=benchmark]", "stream")
    assert not opened.page.locator("#published").is_visible()
    assert opened.trouble == []
    opened.page.context.close()


def test_why_methods_do_not_apply_goes_with_the_switches(browser: Any, tmp_path: Path) -> None:
    why = {("hat", "stream"): "it needs the task", ("hat", "permuted_mnist"): "never", ("owm", "stream"): "never"}
    runs = [on_mnist("gpm"), made_up(0, 3, "gpm", report=False)]
    opened = Opened(browser, write(tmp_path, runs, unsupported=why))
    opened.page.click("summary:has-text('do not apply')")

    def lines() -> list[str]:
        return [" ".join(text.split()) for text in opened.page.locator("details.note li:visible").all_inner_texts()]

    assert lines() == ["it needs the task: hat on stream.", "never: hat on permuted_mnist. owm on stream."]
    opened.page.select_option("select[name=benchmark]", "permuted_mnist")
    assert lines() == ["never: hat on permuted_mnist."]
    assert opened.trouble == []
    opened.page.context.close()


@pytest.mark.parametrize("settings", [2, 8])
def test_on_paper_an_overview_that_is_too_wide_is_left_out_and_what_is_missing_is_read(
    browser: Any, tmp_path: Path, settings: int
) -> None:
    runs = []
    for name in "abcdefgh"[:settings]:
        for k, method in enumerate(("one", "two", "three", "four")):
            own = made_up(0, 3, method, 0.01 * k, report=False)
            runs.append(replace(own, cell=replace(own.cell, benchmark=name)))
    changed = {run.cell.key: [f"{run.cell.benchmark} {run.cell.method}"] for run in runs}
    opened = Opened(browser, write(tmp_path, runs, changed=changed))
    overview, gaps = opened.page.locator("table").first, opened.page.locator("details.gaps")
    assert overview.is_visible() and not opened.page.locator(".print").is_visible()
    opened.page.emulate_media(media="print")
    assert overview.is_visible() == (settings == 2)
    assert opened.page.locator(".print").is_visible() == (settings == 8)
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert gaps.get_attribute("open") is not None
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert gaps.get_attribute("open") is None
    assert opened.trouble == []
    opened.page.context.close()


def test_an_overview_as_wide_as_is_printed_fits_a_letter_on_its_side(browser: Any, tmp_path: Path) -> None:
    runs = []
    for name in ("a_long_benchmark", *"bcd"):
        for seed in range(2):
            own = made_up(seed, 3, "a_method (setting=0.05) *", report=False)
            runs.append(replace(own, cell=replace(own.cell, benchmark=name)))
    path = write(tmp_path, runs, chosen=["acc", "aia", "bwt", "state"])
    opened = Opened(browser, path, viewport={"width": 980, "height": 700})  # 11 inches less 2 cm
    opened.page.emulate_media(media="print")
    assert opened.page.locator("tbody").first.locator("td").count() == PRINTED_COLUMNS
    assert opened.page.locator("table").first.evaluate("table => table.getBoundingClientRect().right") <= 980
    opened.page.context.close()
