"""Names and texts of others in a table: they stay in their cell, on their line, and are only text."""

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.analysis import render
from bench.analysis.compare import Listing
from bench.analysis.latex.text import escape
from bench.analysis.table import Table, summarize
from bench.cli import options
from bench.core import Result
from bench.execution import store
from bench.text import for_terminal, printable, spans

Make = Callable[..., Result]
NAMES = [
    "a|b",
    "a\\|b",
    "a\nb",
    "a\r\nb",
    "\x1b[31mred",
    "a\tb",
    "tab\x00",
    "=1+1",
    "@SUM(A1)",
    "+cmd|' /C calc'!A0",
    "-x",
]


def table_of(*results: Result, **options: Any) -> Table:
    return summarize([(r.cell, r) for r in results], **{"chosen": ("acc",), **options})  # type: ignore[arg-type]


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a GitHub table: a backslash takes the meaning of the sign after it."""
    parts = re.findall(r"(?:\\.|[^|\\])+", line.strip().removeprefix("|").removesuffix("|"))
    return [re.sub(r"\\([|\\])", r"\1", part).strip() for part in parts]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["method", "benchmark"])
def test_a_name_stays_in_its_cell_of_markdown(make_result: Make, name: str, place: str) -> None:
    table = table_of(make_result(**{place: name}), make_result(method="other", benchmark="there"))
    lines = [line for line in render.to_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(cells_of(line)) for line in lines} == {3}
    shown = [cell for line in lines for cell in cells_of(line)]
    assert any(cell.startswith(printable(name)) for cell in shown)
    assert render.to_markdown(table).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_csv_is_one_line_and_no_formula(make_result: Make, name: str) -> None:
    text = render.to_csv(table_of(make_result(name, bwt=-3), chosen=("acc", "bwt")))
    lines = list(csv.reader(io.StringIO(text)))
    assert len(text.splitlines()) == len(lines) == 3
    assert {len(line) for line in lines} == {8}
    assert lines[1][1].removeprefix("'") == printable(name)
    assert not lines[1][1].startswith(("=", "+", "-", "@", "\t"))
    assert float(lines[2][3]) == pytest.approx(-3), "a number keeps its sign"


def test_a_listing_in_csv_keeps_its_numbers_and_dashes() -> None:
    numbers = ["-8.50 ± 1.20", "+0.30", "--", "-0.30 [-1.00, +0.40]", "-1e-05"]
    formulas = ["=A1", "+A1", "-A1", "@A1", '=HYPERLINK("x")', "-2+3+cmd|' /C calc'!A0"]
    text = render.show_listing(Listing(["-head()", *numbers[1:]], [numbers, formulas[:5], formulas[1:]], ""), "csv")
    head, first, *others = csv.reader(io.StringIO(text))
    assert head[0] == "'-head()" and first == numbers
    assert others == [[f"'{word}" for word in row] for row in (formulas[:5], formulas[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_latex_is_text(make_result: Make, name: str) -> None:
    table = table_of(make_result(name), make_result("other"), chosen=("acc", "bwt"))
    text = render.to_latex(table)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4 and all(len(re.findall(r"(?<!\\)&", row)) == 2 for row in rows[1:])
    assert "|" not in text and "\t" not in text and "\x1b" not in text
    assert text.count("\n") == render.to_latex(
        table_of(make_result("a"), make_result("other"), chosen=("acc", "bwt"))
    ).count("\n")


def test_captions_and_notes_are_lines(make_result: Make) -> None:
    """An empty line inside a caption ends LaTeX's run; a line break in a note begins another one."""
    table = table_of(make_result(), unsupported={("a", "b"): "it needs\n\n| x |\n|---|\x07"})
    assert table.notes == ["a does not apply to b: it needs\n\n| x |\n|---|\x07"]
    assert render.to_markdown(table).splitlines()[-1].endswith(r"it needs\n\n| x |\n|---|\x07.")
    caption = render.to_latex(table).split(r"\caption{")[1].split(r"\begin{tabular}")[0]
    assert "\n\n" not in caption and "\x07" not in caption
    listing = Listing(["x"], [["1"]], "One.\n\nTwo\x1b[2J.")
    assert "\n\n" not in render.show_listing(listing, "latex")
    assert r"Two\x1b[2J." in render.show_listing(listing, "md")


def test_a_folder_of_hostile_names_moves_no_cursor(command: Any, make_result: Make, tmp_path: Path) -> None:
    """Whoever was sent a folder of results looks at it."""
    for seed, name in enumerate(["\x1b[2Jgone", "a\nwarning: b", "=1+1"]):
        store.save_result(make_result(name, seed, benchmark="toy", traits={"imported": True}, training={}), tmp_path)
        store.save_result(make_result(name, seed, benchmark="toy"), tmp_path / "unknown")
    for form in ("md", "csv", "latex"):
        answer = command("table", "--out", tmp_path, "--format", form, "--metric", "acc")
        assert answer.code == 0 and answer.out.replace("\n", "").isprintable()
    store.save_result(
        make_result("theirs", 0, benchmark="toy", traits={"imported": True}, training={}), tmp_path / "unknown"
    )
    answer = command("table", "--out", tmp_path / "unknown")
    assert answer.code == 0 and answer.err.count("\n") == 1 and r"\x1b[2Jgone" in answer.err


def test_a_thousand_seeds_in_a_caption(make_result: Make) -> None:
    table = table_of(make_result(), seeds=list(range(1000)))
    assert "n = 1000 (seeds 0–999)" in table.caption
    few = table_of(make_result(), seeds=[0, 1, 2])
    assert "n = 3 (seeds 0, 1, 2)" in few.caption
    gap = table_of(make_result(), seeds=[*range(10), 12, *range(20, 30)])
    assert "(seeds 0–9, 12, 20–29)" in gap.caption


def test_spans_are_read_back() -> None:
    seeds = [7, *range(100, 2000), 3, 4, 5, 2**32 - 1]
    words = spans(seeds, "-")
    assert words == ["7", "100-1999", "3", "4", "5", str(2**32 - 1)]
    assert options.parse_seeds(",".join(words)) == seeds
    assert spans([], "-") == [] and spans([5, 4, 3, 2, 1, 0], "-") == ["5", "4", "3", "2", "1", "0"]


def test_a_line_for_a_terminal() -> None:
    assert for_terminal("± – é 数") == "± – é 数"
    assert for_terminal("a\nb\x1b[0m\udcff\u2028") == r"a\nb\x1b[0m\udcff\u2028"
    long = for_terminal(f"see {'x' * 5000} there")
    assert len(long) < 300 and long.endswith("x there") and "[4800 characters left out]" in long


TAKEN = ["all", "default", "training", "benchmark", "published", "sound", "gpm", "finetune", "gpm+sam", "ness+sam"]


@pytest.mark.parametrize("name", TAKEN)
def test_an_imported_row_takes_no_name_that_means_something(command: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text("0.9,,\n0.8,0.85,\n0.7,0.88,0.95\n")
    words = ("import", tmp_path / "m.csv", "--bench", "toy", "--seed", "0", "--out", tmp_path / "out", "--method")
    answer = command(*words, name)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"--method {name}" in answer.err and f"{name.partition('+')[0]}-imported" in answer.err
    assert not (tmp_path / "out").exists()
    assert command(*words, f"{name.replace('+', '-')}-imported").code == 0
    assert command(*words, "x" * 101).code == 2


FOREIGN = {  # a text, and what LaTeX gets
    "α-GPM": r"$\alpha$-GPM",
    "αβ ≤ ε": r"$\alpha$$\beta$ $\leq$ $\varepsilon$",
    "ΔΩ ΑΒ ός": r"$\Delta$$\Omega$ AB o$\varsigma$",
    "Zoë Łódź": "Zoë Łódź",
    "e\u0301": "é",
    "Nguyễn ą": "Nguyen a",
    "½ 10⁴ x₁ ﬁt": r"1$/$2 10\textsuperscript{4} x\textsubscript{1} fit",
    "数据": "[U+6570][U+636E]",
    "x − 1 × 2": r"x $-$ 1 $\times$ 2",
    "中_β|": r"[U+4E2D]\_$\beta$\textbar{}",
}
IN_LATEX = re.compile(r"[\x20-\x7eæøåœłßıÆØÅŒŁ–—‘’“”…¡¿ëóźé]*")


@pytest.mark.parametrize(("text", "wanted"), FOREIGN.items())
def test_foreign_scripts_in_latex(text: str, wanted: str) -> None:
    assert escape(text) == wanted


@pytest.mark.parametrize("text", ["ε ≤ Δ", "数据", "ﬁt ½ é", "a & 50 % of $x_1$"])
def test_foreign_scripts_in_settings_captions_and_notes(make_result: Make, text: str) -> None:
    """A setting is named beside its row, by a word of whoever wrote the method."""
    results = [make_result("gpm", config={text: text}, overrides={text: [text, "0"]}), make_result("other")]
    table = table_of(*results, unsupported={("more", "bench"): text})
    assert text in table.rows[0] and text in table.notes[0]
    latex = render.to_latex(replace(table, title=f"Of {text}"))
    assert latex.count(escape(text)) >= 3
    rest = latex.replace(escape(text), "")
    assert not re.search(r"[^\x00-\x7f±–—‘’“”]", rest)
    assert all(IN_LATEX.fullmatch(line) for line in latex.replace("±", "").splitlines())


def test_whatever_is_printable_is_something_latex_knows() -> None:
    """Of every sign of the first plane: an even number of $, balanced braces, and no letter that needs a package."""
    accented = {c for c in map(chr, range(0xC0, 0x180)) if c.isalpha()}
    count = 0
    for number in range(0x20, 0xFFFF, 7):
        shown = escape(chr(number))
        bare = shown.replace(r"\$", "").replace(r"\{", "").replace(r"\}", "")
        assert bare.count("$") % 2 == 0 and bare.count("{") == bare.count("}"), hex(number)
        assert shown and all(c.isascii() or c in accented or IN_LATEX.fullmatch(c) for c in shown), hex(number)
        count += 1
    assert count > 9000


@pytest.mark.parametrize("name", ["数据", "[x]", "*x", "β"])
def test_a_row_of_latex_belongs_to_no_line_before_it(make_result: Make, name: str) -> None:
    """After a line of a table, [ would begin a distance, and * a choice."""
    text = render.to_latex(table_of(make_result(name), make_result("other")))
    [row] = [line for line in text.splitlines() if line.endswith(r"\\") and escape(name) in line]
    assert not row.startswith(("[", "*"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_terminal_without_the_signs_loses_no_table(make_result: Make, tmp_path: Path, encoding: str) -> None:
    for seed in range(2):
        store.save_result(make_result("mé数", seed, benchmark="toy", traits={"imported": True}, training={}), tmp_path)
    words = [sys.executable, str(installation.ROOT / "run_bench.py"), "table", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(words, capture_output=True, env=environment, cwd=tmp_path)
    said = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr
    assert ("50.00 +- 0.00" in said) == (encoding == "ascii") and r"\u6570" in said


@pytest.mark.slow
def test_a_run_on_a_terminal_without_the_signs_writes_its_files(tmp_path: Path) -> None:
    words = ["--methods", "finetune", "--bench", "toy", "--seeds", "0,1", "--epochs", "1", "--executor", "serial"]
    script = [sys.executable, str(installation.ROOT / "run_bench.py"), *words, "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(script, capture_output=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"+-" in done.stdout
    [table] = tmp_path.rglob("*.md")
    assert "±" in table.read_text(encoding="utf-8")
