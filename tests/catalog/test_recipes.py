"""Every setting can be seen, and every value of a recipe says where it comes from."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from test_protocols import OPTIONED

from bench.catalog import describe, recipes
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Training, UserError
from bench.search_space import Linear
from bench.settings import setting

RECIPES = [*sorted(recipes.RECIPES.glob("*.toml")), *Catalog().method_recipes().values()]
SOURCE = re.compile(
    r"\b[Oo]urs\b"  # a choice of ours
    r"|\b[\w./-]+\.(py|sh|yaml|yml|json|toml|ipynb)\b"  # a file of public code
    r"|\b(arXiv|Table|Tab\.|Section|Sec\.|Appendix|Algorithm|Eq\.|paper('s)?)\b|§"  # a place in a paper
)
WHOLE = re.compile(r"\bAll (?:ours|from)\b")  # at the head of a file, about all that is in it


def unsourced(text: str) -> list[str]:
    """The values of a recipe without a source, or the word "ours", in the comment on their line or their table's,
    lines of comment that go on below counted in, or at the head of the file if that speaks of all."""
    said = {"head": ""}  # comments by place: the head, a table, or a value
    values: list[tuple[str, str]] = []  # table and place
    table, place = "", "head"
    for line in text.splitlines():
        code, _, comment = (part.strip() for part in line.partition("#"))
        if code.startswith("["):
            table = place = code
        elif "=" in code:
            place = f"{table} {code.partition('=')[0].strip()}"
            values.append((table, place))
        elif not code and not comment:
            place = "gap"  # a comment after an empty line belongs to nothing above
        said[place] = f"{said.get(place, '')} {comment}"
    if WHOLE.search(said["head"]) and SOURCE.search(said["head"]):
        return []
    return [place for table, place in values if not SOURCE.search(f"{said.get(table, '')} {said[place]}")]


def leaves(table: dict[str, Any]) -> int:
    return sum(leaves(value) if isinstance(value, dict) else 1 for value in table.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_value_has_a_source(path: Path) -> None:
    text = path.read_text()
    assert unsourced(text) == []
    bare = re.sub(r"#.*", "", text)
    assert len(unsourced(bare)) == leaves(tomllib.loads(text))  # the checker sees every value


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("[a]\nx = 1\n", ["[a] x"]),
        ("[a]  # main.py:3\nx = 1\ny = 2\n", []),
        ("[a]\nx = 1  # ours\ny = 2  # why not\n", ["[a] y"]),
        ("[a]\n# Table 4 of the first version\nx = 1\n", []),
        ("[a]\nx = [\n  1,\n]  # ours\n", []),
        ("[a]\nx = 1\n# ours: it was tried\ny = 2\n", ["[a] y"]),
        ("[a]\nx = 1\n\n# ours\n[b]\ny = 2\n", ["[a] x", "[b] y"]),
        ('# Sources stand below; "ours" marks a choice.\n\n[a]\nx = 1\n', ["[a] x"]),
        ("# A stream. All ours: chosen on other seeds.\n\n[a]\nx = 1\n", []),
        ("# A stream. All from somewhere.\n\n[a]\nx = 1\n", ["[a] x"]),
        ("# A stream. All from\n# run.sh:3.\n\n[a]\nx = 1\n", []),
        ("[a]  # of course, hours of work\nx = 1\n", ["[a] x"]),
        ('["a+b"]  # the paper\nx = 1\n[c.d]\nx = 1\n', ["[c.d] x"]),
    ],
)
def test_the_checker(text: str, missing: list[str]) -> None:
    assert unsourced(text) == missing


def test_the_listing_hides_nothing(command: Callable[..., Any]) -> None:
    answer = command("list", "--recipes")
    assert (answer.code, answer.err) == (0, "")
    for name in Catalog().available("Benchmark"):
        path = Catalog().recipe_path(name)
        assert path is not None and path.read_text().strip() in answer.out
        assert f"# {name}: bench/catalog/recipes/{name}.toml\n" in answer.out
    assert "A setting that is not above is a default" in answer.out
    sections = dict(part.split(": defaults\n\n") for part in answer.out.split("\n\n# ") if ": defaults\n" in part)
    for name, cls in {
        "training": Training,
        **{m: Catalog().method(m).Config for m in Catalog().available("Method")},
    }.items():
        shown = re.findall(r"^(\w+): .* = ", sections[name], re.MULTILINE)
        assert shown == [field.name for field in fields(cls)], name
    assert "under sound: bn_mode = 'running-frozen'" in sections["training"]
    assert "# radius of SAM's ascent step" in sections["training"]


def test_one_benchmark_of_a_plugin_without_a_recipe(command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "optioned.py"
    path.write_text(OPTIONED)
    answer = command("list", "--recipes", "--bench", "optioned", "--plugin", path)
    assert answer.out.startswith("# optioned: no recipe\n\nA setting that is not above")
    ending = "# data of optioned: defaults\n\nflip: bool = False\nunder published: flip = True\n"
    assert answer.out.endswith(ending)


def test_a_field_is_told_with_its_type_default_meaning_bounds_and_range() -> None:
    @dataclass(frozen=True)
    class Base:
        one: int = 1

    @dataclass(frozen=True)
    class Config(Base):
        two: tuple[int, ...] = setting((2, 3), "second", unit="pixels", at_least=1)
        three: float = setting(0.5, "third", search=Linear(0, 1))
        other = 3

    assert describe.fields_of(Config) == [
        "one: int = 1",
        "two: int, ... = (2, 3)  # second; pixels; at least 1",
        "three: float = 0.5  # third; searched in Linear(low=0, high=1)",
    ]


def test_wrong_requests(command: Callable[..., Any]) -> None:
    assert "did you mean 'toy'?" in command("list", "--recipes", "--bench", "toi").err
    assert "--bench goes with --recipes" in command("list", "--bench", "toy").err


WRONG = {  # a recipe, the line of what is wrong with it, and what is said
    "type": ("# Ours.\n\n[training]\nlr = 'fast'\n", 4, "finetune.lr is float, not 'fast'"),
    "range": ("[training]\nepochs = 1\nlr = -1.0\n", 3, "lr must be greater than 0, not -1.0"),
    "name": ("[training]\nlr = 0.1\n[finetune]\nmomentun = 0.9\n", 4, "did you mean 'momentum'"),
    "protocol": ("[training]\nlr = 0.1\n[published.training]\nlr = true\n", 4, "finetune.lr is float, not True"),
    "option": ("[training]\nlr = 0.1\n[benchmark]\nflip = 3\n", 4, "optioned.flip is bool, not 3"),
    "no toml": ("[training\n", 1, ""),
}


@pytest.mark.parametrize(("recipe", "line", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_in_a_recipe_is_told_with_its_file_and_line(
    command: Callable[..., Any], tmp_path: Path, recipe: str, line: int, said: str
) -> None:
    path = tmp_path / "optioned.py"
    path.write_text(OPTIONED)
    path.with_suffix(".toml").write_text(recipe)
    answer = command("--methods", "finetune", "--bench", "optioned", "--plugin", path, "--dry-run")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert str(path.with_suffix(".toml")) in answer.err and f"line {line}" in answer.err and said in answer.err


LOST = {  # a recipe that says something which nobody would hear, the line of it, and what is said
    "misspelt": (
        "[training]\nlr = 0.1\n\n[trainng]\nlr = 0.3\n",
        4,
        "unknown table 'trainng': did you mean 'training'?",
    ),
    "method": ("# [ewcc]\n[ewcc]\nstrength = 1.0\n", 2, "unknown table 'ewcc': did you mean 'ewc'?"),
    "variant": ('[training]\n["nes+sam"]\nrho = 0.1\n', 2, "unknown table 'nes+sam': did you mean 'ness'?"),
    "protocol": ("[publishd.training]\nlr = 0.1\n", 1, "unknown table 'publishd': did you mean 'published'?"),
    "within": ("[sound.training]\n[sound.trainin]\nlr = 0.1\n", 2, "unknown table 'trainin': did you mean 'training'?"),
    "bare": ("# Ours.\nlr = 3\n[training]\n", 2, "'lr' stands in no table of settings: put it below [training], say"),
    "bare, misspelt": ("lrr = 3\n", 1, "in no table of settings: did you mean 'lr'? put it below [training], say"),
    "bare, within": (
        "[sound]\nlr = 3.0\n",
        2,
        "'lr' stands in no table of settings: put it below [sound.training], say",
    ),
    "dotted": ("training.lr = 0.1\ntrainng.lr = 3\n", 2, "unknown table 'trainng': did you mean 'training'?"),
    "inline": ("trainng = { lr = 3 }\n", 1, "unknown table 'trainng': did you mean 'training'?"),
    "no table": ("sound = 3\n", 1, "'sound' is a table of settings, not 3"),
    "several": ("[[training]]\nlr = 0.1\n", 1, "'training' is a table of settings, not [{'lr': 0.1}]"),
    "nested": (
        "[training]\nlr = 0.1\n[training.sam]\nrho = 1\n",
        3,
        "'sam' is a table within the settings of 'training'",
    ),
    "after a long value": (
        "[gpm]\nenergy = [\n  1,\n  2,\n]\n[gppm]\n",
        6,
        "unknown table 'gppm': did you mean 'gpm'?",
    ),
    "like none": ("[xyzzy]\nlr = 0.1\n", 1, "unknown table 'xyzzy': known: adamnscl, "),
}


@pytest.mark.parametrize(("recipe", "line", "said"), LOST.values(), ids=LOST)
def test_a_table_that_means_nothing_is_refused(
    command: Callable[..., Any], tmp_path: Path, recipe: str, line: int, said: str
) -> None:
    """They were ignored in silence."""
    path = tmp_path / "optioned.py"
    path.write_text(OPTIONED)
    path.with_suffix(".toml").write_text(recipe)
    answer = command("--methods", "finetune", "--bench", "optioned", "--plugin", path, "--dry-run")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"{path.with_suffix('.toml')}, line {line}: " in answer.err and said in answer.err


LOST_BY_A_METHOD = {
    "benchmark": ("[toy]\nlr = 0.1\n[toi]\nlr = 0.1\n", 3, "unknown table 'toi': did you mean 'toy'?"),
    "protocol": ("[soud.toy]\nlr = 0.1\n", 1, "unknown table 'soud': did you mean 'sound'?"),
    "within": ("[sound.digit]\nlr = 0.1\n", 1, "unknown table 'digit': did you mean 'digits'?"),
    "variant": ('["brings+x".toyy]\nlr = 0.1\n', 1, "unknown table 'toyy': did you mean 'toy'?"),
    "bare": ("lr = 3\n", 1, "'lr' stands in no table of settings: put it below the name of a benchmark"),
    "bare in a variant": ('["brings+x"]\nlr = 3\n', 2, "'lr' stands in no table of settings"),
    "of a benchmark's recipe": ("[training]\nlr = 3\n", 1, "unknown table 'training': "),
}


@pytest.mark.parametrize(("recipe", "line", "said"), LOST_BY_A_METHOD.values(), ids=LOST_BY_A_METHOD)
def test_a_table_that_a_method_brings_for_nobody(
    command: Callable[..., Any], plugin: Callable[..., Path], recipe: str, line: int, said: str
) -> None:
    path = plugin("brings")
    path.with_suffix(".toml").write_text(recipe)
    answer = command("--methods", "brings", "--bench", "toy", "--plugin", path, "--dry-run")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"{path.with_suffix('.toml')}, line {line}: " in answer.err and said in answer.err


BY_OPTION = {  # a file for --recipe, the line of what is wrong with it, and what is said
    "type": ('# Ours.\n[finetune]\nlr = "quick"\n', 3, "finetune.lr is float, not 'quick'"),
    "range": ("[finetune]\nepochs = 1\nlr = -1.0\n", 3, "finetune: lr must be greater than 0, not -1.0"),
    "name": ("[finetune]\nlr = 0.1\nmomentun = 0.9\n", 3, "unknown setting of finetune 'momentun': did you mean"),
    "dotted": ('[ewc]\nlr = 1\n[optioned]\n# no\n\n[finetune]\n"lr" = []\n', 7, "finetune.lr is float, not []"),
    "inline": ("finetune = { lr = true }\n", 1, "finetune.lr is float, not True"),
    "data": ("[finetune]\nlr = 0.1\n[optioned]\nflip = 3\n", 4, "optioned.flip is bool, not 3"),
}


@pytest.mark.parametrize(("recipe", "line", "said"), BY_OPTION.values(), ids=BY_OPTION)
def test_a_wrong_value_in_a_recipe_by_option_is_told_with_its_file_and_line(
    command: Callable[..., Any], tmp_path: Path, recipe: str, line: int, said: str
) -> None:
    """The benchmark's own recipe sets the rate too, and is not blamed."""
    plugin, path = tmp_path / "optioned.py", tmp_path / "own.toml"
    plugin.write_text(OPTIONED)
    plugin.with_suffix(".toml").write_text("[training]\nlr = 0.1\n")
    path.write_text(recipe)
    words = ("--methods", "finetune", "--bench", "optioned", "--plugin", plugin, "--recipe", path, "--dry-run")
    answer = command(*words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"{path}, line {line}: {said}" in answer.err


def test_what_stands_above_a_recipe_by_option_is_not_blamed_on_it(command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[finetune]\nlr = 0.1\n")
    words = ("--methods", "finetune", "--bench", "toy", "--recipe", path, "--set", "finetune.lr=fast", "--dry-run")
    answer = command(*words)
    assert answer.code == 2 and "finetune.lr is float, not 'fast'" in answer.err and ".toml" not in answer.err


def test_what_the_user_set_is_not_blamed_on_the_recipe(command: Callable[..., Any]) -> None:
    answer = command("--methods", "finetune", "--bench", "toy", "--set", "finetune.lr=fast", "--dry-run")
    assert answer.code == 2 and "finetune.lr is float, not 'fast'" in answer.err and ".toml" not in answer.err


def test_a_method_brings_its_settings_and_the_recipe_stands_above_them(plugin: Callable[..., Path]) -> None:
    body = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config(Method.Config):\n"
        "    a: int = 1\n    b: int = 1\n    c: int = 1"
    )
    path = plugin("brings", body)
    path.with_suffix(".toml").write_text("[toy]\na = 2\nlr = 0.5\n[sound.toy]\nb = 3\n")
    catalog = Catalog.of([path])
    configs = []
    for benchmark, protocol in (("toy", "published"), ("toy", "sound"), ("digits", "published")):
        [cell] = catalog.plan(Request(["brings"], [benchmark], [0], protocols=[protocol])).cells
        configs.append((*cell.config.values(), cell.training["lr"]))
    assert configs == [(2, 1, 1, 0.5), (2, 3, 1, 0.5), (1, 1, 1, 0.1)]
    above = recipes.read_recipe("x", None, {"brings": path.with_suffix(".toml")})
    assert above == {}
    file = path.with_name("x.toml")
    file.write_text("[brings]\na = 9\n")
    path.with_suffix(".toml").write_text("[x]\na = 2\nc = 2\n")
    assert recipes.read_recipe("x", file, {"brings": path.with_suffix(".toml")}) == {"brings": {"a": 9, "c": 2}}


def test_a_method_brings_variants_of_its_own(plugin: Callable[..., Path], command: Callable[..., Any]) -> None:
    """A name with a dot among them, which `--set` takes too; a wrong value is told with its place."""
    body = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config(Method.Config):\n"
        "    a: int = 1\n    b: int = 1"
    )
    path = plugin("brings", body)
    tables = '[toy]\na = 2\n["brings+x0.1".toy]\nb = 3\n[sound."brings+x0.1".toy]\na = 4\n'
    path.with_suffix(".toml").write_text(tables)
    catalog = Catalog.of([path])
    assert "brings+x0.1" in catalog.variants() and "other+x" not in catalog.variants()
    path.with_suffix(".toml").write_text(tables + '["other+x".toy]\na = 9\n')
    with pytest.raises(
        UserError, match=r"line 7: unknown table 'other\+x': a variant of brings is named 'brings\+WORD'"
    ):
        catalog.variants()
    path.with_suffix(".toml").write_text(tables)
    plan = catalog.plan(Request(["brings", "brings+x0.1"], ["toy", "digits"], [0], protocols=["published", "sound"]))
    found = [tuple(cell.config.values()) for cell in plan.cells if cell.benchmark == "toy"]
    assert found == [(2, 1), (2, 3), (2, 1), (4, 3)]
    assert list(plan.not_applicable) == [("brings+x0.1", "digits")]
    words = ["--plugin", path, "--methods", "brings+x0.1", "--bench", "toy", "--dry-run"]
    assert command(*words, "--set", "brings+x0.1.b=5").code == 0
    path.with_suffix(".toml").write_text('["brings+x0.1".toy]\nb = "five"\n')
    answer = command(*words)
    assert answer.code == 2 and f"{path.with_suffix('.toml')}, line 2" in answer.err


def test_a_file_is_read_anew_after_an_edit_and_a_recipe_is_its_callers_own(tmp_path: Path) -> None:
    """What somebody does to a recipe in Python is in no other, neither its tables nor those under a protocol."""
    path, beside = tmp_path / "one.toml", tmp_path / "two.toml"
    path.write_text("[training]\nlr = 1.0\n[published.two]\neps = 1.0\n")
    beside.write_text("[one]\nranks = [1]\n[published.one]\nrho = 1.0\n")

    def read() -> recipes.Recipe:
        return recipes.read_recipe("one", path, {"two": beside})

    first = read()
    assert first["published"]["two"] == {"eps": 1.0, "rho": 1.0} and first["two"] == {"ranks": [1]}
    first["training"]["lr"] = first["published"]["two"]["eps"] = 2.0
    first["published"]["two"].pop("rho")
    first["two"]["ranks"].append(2)
    assert read() == {
        "training": {"lr": 1.0},
        "published": {"two": {"eps": 1.0, "rho": 1.0}},
        "two": {"ranks": [1]},
    }
    path.write_text("[training]\nlr = 0.125\n")
    beside.write_text("[one]\n")
    assert read() == {"training": {"lr": 0.125}, "two": {}}
