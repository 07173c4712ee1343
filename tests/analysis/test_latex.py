"""LaTeX to paste: it compiles where there is a TeX, fits the page in both classes, and says what a table must say."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.analysis.compare import Listing
from bench.analysis.latex import layout
from bench.analysis.latex.layout import Words, headline, label_of, typeset
from bench.analysis.latex.sheet import TEXT_WIDTH, Column, Group, Sheet, Style, piece_of, width_on_page
from bench.analysis.latex.tables import listing_to_latex, number_piece, to_latex
from bench.analysis.table import Table, summarize
from bench.core import Result

Make = Callable[..., Result]
PUBLISHED = installation.ROOT / "results" / "published"
TEX = shutil.which("pdflatex") or shutil.which("tectonic")
CLASSES = {"one column": "", "two columns": "[twocolumn]"}
DOCUMENT = r"""\documentclass%s{article}
\usepackage{booktabs}
\IfFileExists{siunitx.sty}{\usepackage{siunitx}}{}
\begin{document}
%s
\clearpage
\end{document}
"""


def has_siunitx() -> bool:
    """Whether the TeX that is here has the package, which small installations leave out."""
    finder = shutil.which("kpsewhich")
    return finder is not None and subprocess.run([finder, "siunitx.sty"], capture_output=True).returncode == 0


def troubles(text: str, options: str, folder: Path) -> list[str]:
    """What TeX complains of: what is too wide, too high or unknown. Raises AssertionError where it does not compile."""
    (folder / "page.tex").write_text(DOCUMENT % (options, text), encoding="utf-8")
    assert TEX is not None
    own = ["--keep-logs"] if "tectonic" in TEX else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([TEX, *own, "page.tex"], cwd=folder, capture_output=True)
    log = (folder / "page.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-3000:]
    return re.findall(r"^(?:Overfull \\hbox.*|.*Float too large.*|.*[Uu]ndefined.*)$", log, re.MULTILINE)


def grid(make: Make, benchmarks: Sequence[str], rows: int = 8, seeds: int = 3) -> list[tuple[Any, Result]]:
    """Results with spreads, and BWT of two digits."""
    results = [
        make(f"method{n}", seed, acc=50 + n + seed, bwt=-30 - n - 2 * seed, benchmark=name)
        for name in benchmarks
        for n in range(rows)
        for seed in range(seeds)
    ]
    return [(result.cell, result) for result in results]


def table_of(make: Make, benchmarks: Sequence[str], chosen: Sequence[str] = ("acc", "bwt"), **more: Any) -> Table:
    return summarize(grid(make, benchmarks, **more), chosen)


THREE = ("split_cifar100", "five_datasets", "mini_imagenet")
SHAPES: dict[str, tuple[Sequence[str], Sequence[str], int]] = {
    "one": (["digits"], ["acc"], 5),
    "three by two": (THREE, ["acc", "bwt"], 21),
    "three by six": (THREE, ["acc", "bwt", "forgetting", "la", "aia", "state"], 10),
    "nine by two": ([f"benchmark_{n}" for n in range(9)], ["acc", "bwt"], 12),
    "sixty rows": (["digits"], ["acc", "bwt"], 60),
    "three by two of 130 rows": (THREE, ["acc", "bwt"], 130),
    "nine by two of fifty rows": ([f"benchmark_{n}" for n in range(9)], ["acc", "bwt"], 50),
    "long names": (["x" * 40, "cifar100_superclass"], ["acc", "bwt"], 6),
}


@pytest.mark.skipif(TEX is None, reason="no TeX here")
@pytest.mark.parametrize("options", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_table_fits_the_page(
    make_result: Make, tmp_path: Path, shape: tuple[Sequence[str], Sequence[str], int], options: str
) -> None:
    benchmarks, metrics, rows = shape
    table = table_of(make_result, benchmarks, metrics, rows=rows)
    assert troubles(to_latex(table, second=True), options, tmp_path) == []


@pytest.mark.skipif(TEX is None, reason="no TeX here")
@pytest.mark.parametrize(
    "words",
    ["--paper ness", "--paper gpm", "--bench digits --compare gpm --ranks --protocol published", "--metric acc,bwt"],
)
@pytest.mark.slow
def test_published_tables_fit_the_page(command: Callable[..., Any], tmp_path: Path, words: str) -> None:
    answer = command("table", *words.split(), "--out", PUBLISHED, "--format", "latex")
    assert answer.code == 0
    for options in CLASSES.values():
        assert troubles(answer.out, options, tmp_path) == []


@pytest.mark.skipif(TEX is None or not has_siunitx(), reason="no TeX with siunitx here")
@pytest.mark.slow
def test_columns_of_siunitx_compile(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--bench", "digits", "--protocol", "published", "--format", "latex", "--siunitx")
    answer = command("table", *words, "--out", PUBLISHED)
    assert answer.code == 0 and "table-format" in answer.out
    assert troubles(answer.out, "", tmp_path) == []


@pytest.mark.skipif(TEX is None, reason="no TeX here")
@pytest.mark.slow
def test_hostile_names_compile(make_result: Make, tmp_path: Path) -> None:
    names = [r"\input{x}", "${}$ % # & _ ^ ~", "a\n\nb", "[x]", "*x", "α ≤ β", "数据", "x" * 60]
    results = [make_result(name, seed, acc=50 + seed, benchmark=other) for name in names for seed in (0, 1)
               for other in ("b", names[1])]  # fmt: skip
    setting = {"α ≤ β": ["数据", "$x$ & %"]}
    results += [make_result("gpm", config={"α ≤ β": "数据"}, overrides=setting, benchmark="b")]
    table = summarize([(r.cell, r) for r in results], ["acc"], unsupported={(names[0], "b"): names[2]})
    table = replace(table, title=" ".join(names))
    assert [line for line in troubles(to_latex(table), "", tmp_path) if "ndefined" in line] == []


# What holds without a TeX


def estimated(text: str) -> list[int]:
    """How many columns of numbers each part has."""
    return [len(re.sub(r"@\{\}|l", "", found)) for found in re.findall(r"\\begin\{tabular\}\{(.*)\}", text)]


def test_three_benchmarks_by_two_metrics_are_one_table(make_result: Make) -> None:
    table = table_of(make_result, THREE)
    text = to_latex(table)
    assert estimated(text) == [6] and text.startswith(r"\begin{table*}") and text.endswith(r"\end{table*}")
    assert estimated(to_latex(table_of(make_result, [*THREE, "four", "five"]))) == [6, 4]
    assert estimated(to_latex(table_of(make_result, ["digits"]))) == [2]
    assert to_latex(table_of(make_result, ["digits"])).startswith(r"\begin{table}")


def test_a_benchmark_that_is_too_wide_is_cut_between_its_metrics(make_result: Make) -> None:
    metrics = ["acc", "bwt", "forgetting", "la", "aia"] * 3
    text = to_latex(table_of(make_result, ["digits"], metrics[:5]), room=200)
    assert sum(estimated(text)) == 5 and len(estimated(text)) > 1
    assert len(re.findall(r"\\multicolumn\{\d\}\{c\}\{digits\}", text)) == len(estimated(text))
    assert len(re.findall(r"^method0 & ", text, re.MULTILINE)) == len(estimated(text)), "every part names its rows"


def test_what_is_higher_than_a_page_goes_on_in_another_float(make_result: Make) -> None:
    text = to_latex(table_of(make_result, [f"b{n}" for n in range(12)], rows=20))
    floats = text.split("\n\n")
    assert len(floats) > 1 and sum(estimated(text)) == 24
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert len(set(labels)) == len(floats)
    assert all("continued" in re.findall(r"\\caption\{(.*)\}", part)[0] for part in floats[1:])
    assert [r"Continued in the next table" in part for part in floats] == [True] * (len(floats) - 1) + [False]
    assert "Protocol published" in floats[-1] and "Protocol published" not in floats[0]


@pytest.mark.parametrize(("benchmarks", "rows", "parts"), [(["digits"], 60, 1), (THREE, 130, 1), ("abcdefghi", 50, 3)])
def test_a_table_longer_than_a_page_is_cut_between_its_rows(
    make_result: Make, benchmarks: Sequence[str], rows: int, parts: int
) -> None:
    """Into pieces of about one height, none higher than a page; every row is there once in each part, in order."""
    text = to_latex(table_of(make_result, list(benchmarks), rows=rows, seeds=1))
    tables = re.findall(r"\\begin\{tabular\}\{.*?\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    names = [re.findall(r"^(method\d+) & ", table, re.MULTILINE) for table in tables]
    assert [name for own in names for name in own] == [f"method{n}" for n in range(rows)] * parts
    pieces = len(tables) // parts
    assert pieces > 1 and len(tables) == pieces * parts
    sizes = [len(own) for own in names]
    assert max(sizes) - min(sizes) <= 1 and (max(sizes) + 3) * 9.5 < layout.HEIGHT
    assert all(r"\multicolumn" in table and r"\toprule" in table for table in tables), "each piece has its head"
    floats = text.split("\n\n")
    assert [r"Continued in the next table" in part for part in floats] == [True] * (len(floats) - 1) + [False]


def test_a_line_of_ours_stays_below_the_papers() -> None:
    names = [piece_of(f"m{n // 2}") if n % 2 == 0 else piece_of("ours") for n in range(150)]
    cells = [piece_of(str(n)) for n in range(150)]
    columns = [Column(piece_of("a"), "l", names)], [Group("", [Column(piece_of("b"), "r", cells)])]
    text = typeset([lambda _: Sheet(*columns, frozenset(range(1, 150, 2)))], Words("c", "l", []))
    starts = re.findall(r"\\midrule\n(\w+) & ", text)
    assert len(starts) > 2 and "ours" not in starts and len(re.findall(r"^ours & ", text, re.MULTILINE)) == 75


def test_notes_longer_than_half_a_page_leave_room_for_rows() -> None:
    columns = (
        [Column(piece_of("a"), "l", [piece_of("m")] * 60)],
        [Group("", [Column(piece_of("b"), "r", [piece_of("1")] * 60)])],
    )
    text = typeset([lambda _: Sheet(*columns)], Words("c", "l", ["long note " * 400]))
    assert 1 < text.count(r"\begin{tabular}") < 5 and len(re.findall("^m & 1", text, re.MULTILINE)) == 60


def test_the_caption_is_short_and_stands_above_with_space(make_result: Make) -> None:
    benchmarks = [f"a_long_name_of_a_benchmark_{n}" for n in range(12)]
    for table in (table_of(make_result, THREE), table_of(make_result, benchmarks)):
        text = to_latex(table)
        [caption] = re.findall(r"\\caption\{(.*)\}", text.split("\n\n")[0])
        assert len(caption) < 240, "three lines"
        assert text.index(r"\setlength{\belowcaptionskip}{6pt}") < text.index(r"\caption") < text.index(r"\label")
        assert text.index(r"\label") < text.index(r"\begin{tabular}")
        notes = text[text.rindex(r"\end{tabular}") :]
        assert "Protocol published" in notes and "ACC: mean accuracy" in notes and "n = 3" in notes
    assert "12 benchmarks" in text


def test_best_is_bold_and_second_underlined_where_asked(make_result: Make) -> None:
    table = summarize(
        [(r.cell, r) for r in (make_result(m, acc=a, bwt=-a) for m, a in zip("abc", (60, 80, 70), strict=True))]
    )
    plain, marked = to_latex(table), to_latex(table, second=True)
    rows = {line[0]: line.split(" & ") for line in marked.splitlines() if re.match(r"[abc] &", line)}
    assert rows["b"][1] == r"$\mathbf{80.00}$" and rows["c"][1] == r"$\underline{70.00}$" and rows["a"][1] == "$60.00$"
    assert rows["a"][2] == r"$\mathbf{-60.00}$" and rows["c"][2] == r"$\underline{-70.00}$"
    assert "underline" not in plain and "Second best underlined" in marked and "Second" not in plain


def test_a_tie_for_the_best_leaves_the_next_value_second(make_result: Make) -> None:
    table = summarize(
        [(r.cell, r) for r in (make_result(m, acc=a) for m, a in zip("abcd", (80, 80, 70, 60), strict=True))], ["acc"]
    )
    entries = [table.entries[row, ("bench", "acc")] for row in "abcd"]
    assert [entry.best for entry in entries] == [True, True, False, False]
    assert [entry.second for entry in entries] == [False, False, True, False]


def test_a_number_with_its_spread() -> None:
    assert number_piece("1.00 ± 0.10").text == r"$1.00 \pm 0.10$"
    assert number_piece("1.00 ± 0.10", lowered=True).text == r"$1.00_{\pm 0.10}$"
    assert number_piece("-3", " (n=2)", command=r"\mathbf").text == r"$\mathbf{-3}$ (n=2)"
    assert number_piece("1.00 ± 0.10", lowered=True).width < number_piece("1.00 ± 0.10").width


def test_a_label_and_a_headline() -> None:
    assert label_of("split_cifar100 (2 epochs)", "β & digits") == "tab:split-cifar100-2-epochs-digits"
    assert headline("One. Two.\nThree.", "x") == ("One.", ["Two.", "Three."])
    assert headline("One line\nTwo. Three.", "x") == ("One line.", ["Two. Three."])
    assert headline("long " * 60 + ". Two.", "instead")[0] == "instead"
    assert headline("Alone.", "x") == ("Alone.", [])


def test_no_part_is_estimated_wider_than_the_text(make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    real = layout._floats

    def floats(pages: Sequence[Sequence[Sheet]], style: Style, words: Words) -> str:
        seen.extend((width_on_page(sheet, style), words.room) for page in pages for sheet in page)
        return real(pages, style, words)

    monkeypatch.setattr(layout, "_floats", floats)
    for room in (TEXT_WIDTH, 229.0, 469.0):
        for benchmarks in (THREE, ["a", "b"], [f"benchmark_{n}" for n in range(7)]):
            to_latex(table_of(make_result, benchmarks, rows=3), room=room)
    assert len(seen) > 9 and all(width <= room for width, room in seen)


def test_a_listing_is_laid_out_too() -> None:
    listing = Listing(["method", "a", "b"], [["x_y", "1", "2"]], "What it is. What it means.\nMore.", left=1)
    text = listing_to_latex(listing)
    assert r"\caption{What it is.}" in text and "What it means.\nMore." in text
    assert r"x\_y & 1 & 2 \\" in text and r"\cmidrule" not in text
    names = Column(piece_of("method"), "l", [piece_of("a")])
    wide = [Group("", [Column(piece_of("x" * 30), "r", [piece_of("1")])]) for _ in range(4)]
    assert estimated(typeset([lambda _: Sheet([names], wide)], Words("c", "l", []))) == [2, 2]


# A paper's table


@pytest.fixture
def paper(command: Callable[..., Any], tmp_path: Path) -> str:
    for method in ("ewc", "gpm", "ness"):  # and no other that is published since
        shutil.copytree(PUBLISHED / "split_cifar100" / method, tmp_path / "some" / "split_cifar100" / method)
    answer = command("table", "--paper", "ness", "--out", tmp_path / "some", "--format", "latex", "--width", "469")
    assert answer.code == 0
    return str(answer.out)


def rows_in(text: str) -> dict[str, list[str]]:
    """The cells of each row by its first; of our lines, by the row above."""
    found: dict[str, list[str]] = {}
    above = ""
    for line in text.splitlines():
        if line.endswith(r" \\"):
            first, *cells = line.removesuffix(r" \\").split(" & ")
            above = above if first == r"\quad ours" else first
            found[f"{above} ours" if first == r"\quad ours" else first] = cells
    return found


def test_a_papers_table_has_its_methods_in_rows_and_its_benchmarks_in_columns(paper: str) -> None:
    assert paper.count(r"\begin{tabular}") == 1
    heads = re.findall(r"\\multicolumn\{2\}\{c\}\{(.*?)\}", paper)
    assert heads == ["10-split CIFAR-100", "5-Datasets", "20-split MiniImageNet"]
    rows = rows_in(paper)
    assert rows["GPM"][0] == r"$71.63 \pm 0.67$" and rows["GPM"][2] == r"$90.61 \pm 0.57$"
    assert rows["GPM ours"][0].startswith("$71.79$") and rows["GPM ours"][2] == "--"
    assert r"\scriptsize (n=1)" in rows["GPM ours"][0], "one run beside the paper's five says so"
    assert r"2 ep." in rows[r"EWC \P{} ours"][0] and "ep.: epochs a task, where not the paper's." in paper
    assert "SGP ours" not in rows
    assert r"\caption{NESS (arXiv 2602.21919v1 / CPAL 2026), Table 1: published numbers beside ours" in paper


def test_our_numbers_stand_beside_where_there_is_room(command: Callable[..., Any]) -> None:
    words = ("--bench", "split_cifar100", "--methods", "gpm,ness", "--format", "latex")
    text = command("table", "--paper", "ness", "--out", PUBLISHED, *words).out
    assert "method & ACC & ours & BWT & ours" in text
    [gpm] = [line for line in text.splitlines() if line.startswith("GPM")]
    assert [cell.split("$")[1].split(" ")[0].split("_")[0] for cell in gpm.split(" & ")[1:]] == [
        "71.63", "71.79", "-0.28", "0.01",
    ]  # fmt: skip


def test_each_printed_table_stands_alone_without_blank_rows(command: Callable[..., Any]) -> None:
    text = command("table", "--paper", "gpm", "--out", PUBLISHED, "--format", "latex").out
    floats = text.split(r"\end{table")[:-1]
    titles = [re.findall(r"caption\{.*?2103.09762\), (.*?): published", one) for one in floats]
    assert [title for [title] in titles] == [
        "Table 1(b) as on the poster", "Table 1(a) as on the poster",
        "superclass/expansion-method table as on the poster",
    ]  # fmt: skip
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels)
    for line in text.splitlines():
        if line.endswith(r" \\"):
            assert any(cell.strip() for cell in line.removesuffix(r" \\").split(" & ")[1:]), line
    assert "OGD" not in floats[0] and "OGD" in floats[1] and "DEN" in floats[2] and "DEN" not in floats[1]


def test_a_part_leaves_out_what_holds_nothing_there() -> None:
    names = Column(piece_of("method"), "l", [piece_of(name) for name in ("a", "ours", "b", "ours", "c")])

    def group(*cells: str) -> Group:
        return Group(cells[0], [Column(piece_of("ACC"), "r", [piece_of(cell) for cell in cells])])

    sheet = Sheet([names], [group("1", "2", "", "", "--"), group("", "", "3", "--", "")], frozenset({1, 3}))
    first, second = sheet.part(sheet.groups[:1]), sheet.part(sheet.groups[1:])
    assert [cell.text for cell in first.left[0].cells] == ["a", "ours", "c"] and first.below == {1}
    assert [cell.text for cell in second.left[0].cells] == ["b"] and not second.below
    assert sheet.part(sheet.groups).rows == 4, "all but a line of ours without a number"


def test_verdicts_are_marks(command: Callable[..., Any]) -> None:
    words = ("--paper-table", "Table 1(a) as on the poster", "--format", "latex", "--metric", "acc")
    text = command("table", "--paper", "cuber", "--out", PUBLISHED, "--format", "latex", "--metric", "acc").out
    assert "= agrees with the paper" in text
    assert command("table", "--paper", "gpm", "--out", PUBLISHED, *words).code == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--second"], "--format latex"),
        (["--second", "--siunitx", "--format", "latex"], "--siunitx"),
        (["--width", "20", "--format", "latex"], "--width must be at least 200 points"),
        (["--width", "wide"], "--width"),
    ],
)
def test_bad_options_are_one_line(command: Callable[..., Any], words: list[str], part: str) -> None:
    answer = command("table", "--out", PUBLISHED, *words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1) and part in answer.err
