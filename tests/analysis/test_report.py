"""The report: a page that stands alone, hides no gap and trusts no name."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from test_plots import made_up, over_classes

from bench.analysis import report
from bench.analysis.explorer.manifest import commands_behind
from bench.analysis.page import TEMPLATES
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Result
from bench.execution import store

Make = Callable[..., Result]
HOSTILE = "<script>alert(1)</script>&\"'"
OWN_SCRIPTS = 2  # the numbers, and what draws them
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Raises where tags are not balanced; keeps the text, the tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A page of a whole method, a partial one with a hostile name, a failed one, an absent, and one out of place."""
    whole = [made_up(seed, 2, "whole") for seed in range(2)]
    failed = made_up(0, 2, "broken")
    failed.matrix, failed.tasks, failed.error = [], [], "RuntimeError: loss <is> NaN"
    results = [*whole, made_up(0, 2, HOSTILE, report=False), failed]
    pairs = report.with_gaps(results, ["whole", "absent"], {})
    path = tmp_path_factory.mktemp("report") / "page.html"
    report.write_report(
        path, pairs, [0, 1], ["acc", "bwt"], ["python run_bench.py --methods <all>"],
        unsupported={("other", "stream"): "it needs a <transformer>"},
    )  # fmt: skip
    return path, path.read_text()


def test_it_is_balanced_small_and_loads_nothing(page: tuple[Path, str]) -> None:
    parsed = Page(page[1])
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert "http:" not in page[1] and "https:" not in page[1] and "url(" not in page[1] and "@import" not in page[1]
    assert "default-src 'none'" in page[1]
    assert len(page[1].encode()) < 300_000
    assert {"svg", "figure", "figcaption", "table"} <= set(parsed.tags)
    assert "prefers-color-scheme: dark" in page[1] and "width=device-width" in page[1]


def test_names_are_escaped(page: tuple[Path, str]) -> None:
    parsed = Page(page[1])
    assert parsed.tags.count("script") == OWN_SCRIPTS
    assert HOSTILE in parsed.text
    assert "loss <is> NaN" in parsed.text and "<all>" in parsed.text and "it needs a <transformer>" in parsed.text


@pytest.mark.filterwarnings("ignore:constrained_layout")  # such names leave no room for a figure
@pytest.mark.parametrize(
    "attack",
    [
        "'{{ 7 * 7 }}&lt;",
        pytest.param("<script>alert(1)</script>", marks=pytest.mark.slow),
        pytest.param('"><img src=x onerror=alert(1)>', marks=pytest.mark.slow),
        "</script>${alert(1)}<!--",
        "אבג" + "w" * 200,
    ],
)
def test_no_text_becomes_markup(tmp_path: Path, attack: str) -> None:
    """Each text that the page shows ends in an attack, and comes out letter by letter."""

    def hostile(what: str) -> str:
        return f"{what} {attack}"

    commit = f"c {attack}"[:12]
    results = [made_up(seed, 2, hostile("method")) for seed in range(2)]
    for result in results:
        result.environment |= {"device": hostile("device"), "commit": commit, "packages": {"own": hostile("1.0")}}
        result.environment["data"] = hostile("data")
        cell = replace(
            result.cell, benchmark=hostile("benchmark"), config={"rule": hostile("setting")}, source={"method": attack}
        )
        result.cell = replace(cell, overrides={"rule": ["plain", hostile("override")]})
    broken = made_up(0, 2, "broken")
    broken.matrix, broken.tasks, broken.error = [], [], hostile("error")
    pairs = report.with_gaps([*results, broken], [hostile("absent")], {})
    why = {(hostile("other"), hostile("benchmark")): hostile("reason")}
    changed = {results[0].cell.key: [hostile("change")]}
    report.write_report(
        tmp_path / "page.html", pairs, [0, 1], ["acc"], [hostile("command")], unsupported=why, changed=changed
    )
    parsed = Page((tmp_path / "page.html").read_text())
    assert parsed.tags.count("script") == OWN_SCRIPTS and "img" not in parsed.tags
    shown = "method device 1.0 data benchmark setting override error absent other reason change command"
    missing = [what for what in shown.split() if " ".join(hostile(what).split()) not in parsed.text]
    assert missing == []
    assert commit in parsed.text


def test_no_text_is_trusted() -> None:
    templates = sorted(TEMPLATES.glob("*.j2"))
    trusted = [line for path in templates for line in path.read_text().splitlines() if re.search(r"\|\s*safe\b", line)]
    assert trusted == []
    assert len(templates) == 2


def cells_of(html: str) -> dict[str, list[str]]:
    """The markup of the cells of each row, by its name; of the first table that has the row."""
    found: dict[str, list[str]] = {}
    for row, rest in re.findall(r'<th scope="row"><bdi>(.*?)</bdi></th>(.*?)</tr>', html, re.DOTALL):
        found.setdefault(row, re.findall(r"<td[^>]*>\s*(.*?)</td>", rest, re.DOTALL))
    return found


@pytest.mark.slow
def test_a_row_that_lacks_seeds_says_how_many_it_has(tmp_path: Path) -> None:
    whole, partial = ([made_up(seed, 2, name) for seed in range(n)] for name, n in (("whole", 3), ("partial", 2)))
    report.write_report(
        tmp_path / "page.html", report.with_gaps([*whole, *partial], [], {}), [0, 1, 2], ["acc", "state"]
    )
    overview = (tmp_path / "page.html").read_text().split("</table>")[0]
    cells = {row: [re.sub(r"<.*?>", "", cell) for cell in found] for row, found in cells_of(overview).items()}
    assert cells["partial"] == ["88.00 ± 0.71 (n=2)", "5 (n=2)"]
    assert cells["whole"] == ["88.50 ± 1.00", "5"]  # alone, it has nothing to beat


def test_gaps_are_shown(page: tuple[Path, str]) -> None:
    text = Page(page[1]).text
    assert "failed: broken on stream, seed 0: RuntimeError" in text
    assert "missing: broken on stream, seed 1" in text
    assert f"missing: {HOSTILE} on stream, seed 1" in text
    assert "missing: absent on stream, every seed" in text
    assert "missing: other" not in text  # it does not apply
    rows = cells_of(page[1])
    assert "failed" in rows["broken"][0] and "missing" in rows["absent"][0] and "n/a" in rows["other"][0]
    assert "No run here: absent, other." in text
    assert "(n=1)" in next(cells[0] for row, cells in rows.items() if "script" in row)


def test_the_numbers_are_those_of_the_table(page: tuple[Path, str]) -> None:
    assert "88.00 ± 0.71" in page[1] and "−5.00 ± 0.00" in page[1]


def test_every_figure_has_a_title_and_a_role_and_is_no_file(page: tuple[Path, str]) -> None:
    drawn = re.findall(r'<svg role="img" aria-labelledby="([^"]+)" tabindex="0">', page[1])
    titles = re.findall(r'<b id="([^"]+)">[^<]+</b>', page[1])
    assert drawn == titles and len(set(drawn)) == page[1].count("<figure ") > 0
    assert [path.name for path in page[0].parent.iterdir()] == ["page.html"]
    assert "2 tasks, task-il, at most 3 epochs a task, protocol published; n = 2 (seeds 0, 1)." in Page(page[1]).text


def test_the_address_can_hold_every_choice(page: tuple[Path, str]) -> None:
    """Controls have names of their own, none that the address uses for something else, and places look like none."""
    controls = re.findall(r"<(?:select|input)[^>]*>", page[1])
    names = [name for control in controls for name in re.findall(r' name="([^"]+)"', control)]
    assert len(names) == len(set(names)) == len(controls) > 3
    places = re.findall(r' id="([^"]+)"', page[1])
    assert not {"place", "sort", "without"} & set(names) and not any("=" in place for place in places)


def test_every_table_has_a_caption(page: tuple[Path, str]) -> None:
    assert page[1].count("<table") == page[1].count("<caption>") > 3


def numbers_of(html: str) -> dict[str, Any]:
    """What the script draws."""
    told = re.search(r'<script type="application/json" id="drawn">(.*?)</script>', html, re.DOTALL)
    assert told
    found: dict[str, Any] = json.loads(told[1])
    return found


@pytest.mark.parametrize(
    "formats", [[], *(pytest.param(own, marks=pytest.mark.slow) for own in (["png"], ["pdf", "png"]))]
)
def test_figures_are_files_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: list[str]
) -> None:
    drawn: list[str] = []
    savefig = Figure.savefig

    def count(self: Figure, target: Any, **options: Any) -> None:
        drawn.append(Path(target).suffix[1:])
        savefig(self, target, **options)

    monkeypatch.setattr(Figure, "savefig", count)
    report.write_report(tmp_path / "page.html", report.with_gaps([made_up(0, 2)], [], {}), [0], formats=formats)
    [section] = numbers_of((tmp_path / "page.html").read_text())["sections"]
    linked = [Path(file).name for files in section["files"].values() for file in files]
    assert len(set(linked)) == len(linked) == len(drawn)
    assert set(drawn) == set(formats)
    files = {path.name for path in tmp_path.glob("figures/*")}
    assert files == (set(linked) | {"captions.md"} if formats else set()) and bool(linked) == bool(formats)
    captions = (tmp_path / "figures/captions.md").read_text() if formats else ""
    assert all(f"**{Path(name).stem}**: " in captions for name in linked)


def sections_of(html: str) -> list[str]:
    """The names of the benchmarks under their budgets."""
    return re.findall(r'<h2 id="b\d">(.*?)</h2>', html)


@pytest.mark.slow
def test_protocols_are_kept_apart(tmp_path: Path) -> None:
    """In columns, sections, figures and captions; what is missing is missing under both."""
    published = [made_up(seed, 2, "own", lost=0.1) for seed in range(2)]
    sound = [replace(r, cell=replace(r.cell, protocol="sound", options={"flip": False})) for r in
             (made_up(seed, 2, "own", lost=0.3) for seed in range(2))]  # fmt: skip
    published[0].environment["data"], sound[0].environment["data"] = "aaa", "bbb"
    pairs = report.with_gaps([*published, *sound], [], {"elsewhere": "task-il"})
    unsupported = {("other", name): "it needs a transformer" for name in ("stream", "elsewhere")}
    report.write_report(tmp_path / "page.html", pairs, [0, 1], ["acc"], unsupported=unsupported)
    html = (tmp_path / "page.html").read_text()
    assert sections_of(html) == ["stream", "stream (sound)", "elsewhere", "elsewhere (sound)"]
    told = re.findall(r'<h2 id="b\d">(.*?)</h2>\s*<p class="soft">[^<]*protocol (\w+)[^<]*</p>', html)
    assert dict(told) == {"stream": "published", "stream (sound)": "sound"} | dict(told[2:]) and len(told) == 4
    lost = [section["rows"][0]["matrix"][1][0] for section in numbers_of(html)["sections"][:2]]
    assert lost == [80.5, 60.5]
    text = Page(html).text
    assert "stream, seed 0: aaa" in text and "stream, flip=False, seed 0: bbb" in text
    assert "missing: own on elsewhere, elsewhere (sound), every seed" in text and "missing: other" not in text


def test_scenarios_are_kept_apart(tmp_path: Path) -> None:
    """In columns, sections, ranks, switches and settings; the confusion is a table too where it was counted."""
    told = [replace(made_up(seed, 2, "own"), matrix=[[0.95, None], [0.9, 0.9]]) for seed in range(2)]
    untold = [over_classes(seed) for seed in range(2)]
    pairs = report.with_gaps([*told, *untold], [], {"elsewhere": "class-il"})
    report.write_report(tmp_path / "page.html", pairs, [0, 1])
    html = (tmp_path / "page.html").read_text()
    assert sections_of(html) == ["stream", "stream (class-il)", "elsewhere (class-il)"]
    assert re.findall(r'<section data-of="\d"[^>]*data-scenario="([^"]*)"', html) == ["task-il", "class-il", "class-il"]
    assert re.findall(r"<h3>(Protocol [^<]*)</h3>", html) == [
        "Protocol published, task-il",
        "Protocol published, class-il",
    ]
    assert (
        '<select name="scenario"><option value="">all</option><option>task-il</option><option>class-il</option>' in html
    )
    assert "scenario=task-il" in html and "scenario=class-il" in html
    tables = re.findall(r"<details><summary>Confusion between tasks, as a table</summary>(.*?)</details>", html, re.S)
    assert [re.findall(r"<td>(.*?)</td>", table) for table in tables] == [["1", "65.0", "35.0", "2", "12.5", "87.5"]]
    assert re.search(r'<b id="b1-confusion">.*?<svg role="img" aria-labelledby="b1-confusion"', html, re.S)
    assert "stream: 2 tasks, class-il, at most 3 epochs a task." in Page(html).text


@pytest.mark.slow
def test_precisions_are_kept_apart(tmp_path: Path) -> None:
    """In columns, sections, captions and settings; what is missing is missing in both."""
    exact = [made_up(seed, 2, "own") for seed in range(2)]
    reduced = [replace(r, cell=replace(r.cell, precision="bf16")) for r in exact]
    pairs = report.with_gaps([*exact, *reduced], [], {"elsewhere": "task-il"})
    report.write_report(tmp_path / "page.html", pairs, [0, 1], ["acc"])
    html = (tmp_path / "page.html").read_text()
    assert sections_of(html) == ["stream", "stream (bf16)", "elsewhere", "elsewhere (bf16)"]
    told = re.findall(r'<p class="soft">([^<]*)</p>', html)
    assert ["precision bf16" in conditions for conditions in told] == [False, True, False, True]
    text = Page(html).text
    assert "precision=fp32" in text and "precision=bf16" in text
    assert "missing: own on elsewhere, every seed" in text, "the recipe's precision alone is counted"


def test_names_that_make_the_same_file_name_are_kept_apart() -> None:
    pairs = report.with_gaps([made_up(0, 2, "a b"), made_up(0, 2, "a-b")], [], {})
    runs = report.runs_of(report.summarize(pairs), pairs, [0])
    names = [plot.name for group in report._draw(runs) for plot in group]
    assert len(set(names)) == len(names)


def test_nothing_finished_is_a_page_too(make_result: Make, tmp_path: Path) -> None:
    pairs = report.with_gaps([make_result(error="E: boom")], [], {"elsewhere": "task-il"})
    report.write_report(tmp_path / "page.html", pairs, [0])
    text = Page((tmp_path / "page.html").read_text()).text
    assert "No finished run" in text and "failed: a on bench, seed 0: E: boom" in text
    assert "missing: a on elsewhere, every seed" in text


def test_commands_are_those_of_the_manifests(make_result: Make, tmp_path: Path) -> None:
    result = make_result()
    known = {"command": "python run_bench.py", "cells": [result.cell.path.as_posix()]}
    for name, content in {"a": known, "b": known, "c": {**known, "cells": [], "command": "other"}, "d": 3}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "e.json").write_text("{")
    assert commands_behind([result], tmp_path) == ["python run_bench.py"]


def test_the_verb(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    out = tmp_path / "results"
    (cell,), _ = Catalog().plan(plan.Request(["finetune"], ["toy"], [0], epochs=1))
    store.save_result(replace(made_up(0, 2, report=False), cell=cell), out)
    words = ("--methods", "finetune,ewc", "--bench", "toy", "--seeds", "0,1", "--figures", "pdf")
    code, told, _ = command("report", "--out", out, *words)
    assert (code, told) == (0, f"report: {out / 'report.html'}\n")
    text = Page((out / "report.html").read_text()).text
    assert "missing: finetune on toy (1 epoch), seed 1" in text and "missing: ewc on toy (1 epoch), every seed" in text
    assert str(tmp_path) not in text
    assert f'href="{cell.path.as_posix()}">0</a>' in (out / "report.html").read_text()
    assert list((out / "figures").glob("toy-*-average.pdf")) and not list((out / "figures").glob("*.png"))


BAD = [
    (["--out", "{}"], "no results"),
    (["--to", "{}"], "is a folder"),
    (["--figures", "pfd"], "unknown figure format 'pfd': did you mean 'pdf'?"),
    (["--figures", ""], "no figure format"),
]


@pytest.mark.parametrize(("words", "part"), BAD)
def test_a_bad_request_is_one_line(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str], part: str
) -> None:
    code, _, err = command("report", *(word.format(tmp_path) for word in words))
    assert code == 2 and part in err and err.count("\n") == 1


def luminance(colour: str) -> float:
    """Of "#rrggbb", or of the short form, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(c + c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_can_be_read_by_day_and_by_night() -> None:
    """All text, and all curves, at least 4.5 : 1, as WCAG 2.2 asks of text."""
    css = (TEMPLATES / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    day, night = (dict(re.findall(r"--(\w+): (#\w+)", block)) for block in blocks)
    assert day.keys() == night.keys()
    inks = ["ink", "soft", "bad", "link", *(f"c{k}" for k in range(7))]
    ratios = []
    for theme in (day, night):
        for ink in inks:
            for ground in ("paper", "shade"):
                dark, light = sorted((luminance(theme[ink]), luminance(theme[ground])))
                ratios.append(((light + 0.05) / (dark + 0.05), ink, ground, theme["paper"]))
    assert len(ratios) == 44 and min(ratios) >= (4.5,)
