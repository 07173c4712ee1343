"""Plugins: files, folders, modules and packages, entry points; and what a bad one gets to hear."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import executed

from bench import installation
from bench.catalog import discovery, identity, plan
from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.execution import runner
from bench.training.method import Method

METHOD = "from bench.training.method import Method\n\n\nclass Own(Method):\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package, `lab.ideas.pull`, whose method needs its neighbour."""
    ideas = tmp_path / "lab" / "ideas"
    ideas.mkdir(parents=True)
    (ideas.parent / "__init__.py").touch()
    (ideas / "__init__.py").touch()
    (ideas / "_tool.py").write_text("STRENGTH = 3.0\n")
    (ideas / "pull.py").write_text("from ._tool import STRENGTH\n" + METHOD + "    strength = STRENGTH\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield ideas
    for name in [name for name in sys.modules if name.split(".")[0] == "lab"]:
        del sys.modules[name]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`offer(group, "name = module")` installs a distribution with an entry point."""
    discovery.installed.cache_clear()

    def write(group: str, line: str) -> None:
        info = tmp_path / "lab-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ness_bench.{group}]\n{line}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    discovery.installed.cache_clear()


@pytest.mark.parametrize("dotted", ["lab.ideas.pull", "lab.ideas"])
def test_a_module_or_package_is_found_without_being_imported(package: Path, dotted: str) -> None:
    plugins = [Path(dotted)]
    assert Catalog.of(plugins).available("Method")["pull"] == package / "pull.py"
    assert "lab" not in sys.modules
    assert Catalog.of(plugins).method("pull").strength == 3.0
    assert Catalog.of(plugins).method("pull") is sys.modules["lab.ideas.pull"].Own


def test_the_file_of_a_package_is_its_module(package: Path) -> None:
    assert Catalog.of([package / "pull.py"]).method("pull").__module__ == "lab.ideas.pull"


@pytest.mark.parametrize("dotted", ["lab.nothing", "lab.ideas.pull.more", "no_such_lab", "a..b", "sys"])
def test_a_module_that_is_not_there(package: Path, dotted: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"no plugin at {dotted}")):
        Catalog.of([Path(dotted)]).available("Method")


def test_an_installed_method_has_the_name_of_its_entry_point(package: Path, offer: Callable[..., None]) -> None:
    offer("methods", "their_pull = lab.ideas.pull")
    assert Catalog().available("Method")["their_pull"] == package / "pull.py"
    assert Catalog().method("their_pull").strength == 3.0
    assert "their_pull" not in Catalog().available("Benchmark")


def test_an_installed_benchmark_with_its_recipe(package: Path, offer: Callable[..., None]) -> None:
    body = "    num_tasks, num_classes, input_shape = 4, 2, (1,)\n\n    def stream(self, seed, data): ...\n"
    (package / "field.py").write_text(f"from bench.core import Benchmark\n\n\nclass Field(Benchmark):\n{body}")
    (package / "field.toml").write_text("[training]\nepochs = 7\n")
    offer("benchmarks", "their_field = lab.ideas.field")
    assert Catalog().benchmark("their_field").name == "their_field"
    assert Catalog().recipe("their_field") == {"training": {"epochs": 7}}


@pytest.mark.parametrize("value", ["lab.nothing", "lab.ideas._tool", "lab.ideas"])
def test_a_broken_entry_point_is_named(package: Path, offer: Callable[..., None], value: str) -> None:
    offer("methods", f"theirs = {value}")
    with pytest.raises(UserError, match=rf"entry point theirs = {re.escape(value)} of lab "):
        Catalog().available("Method")


def test_an_entry_point_cannot_take_a_name(package: Path, offer: Callable[..., None]) -> None:
    offer("methods", "gpm = lab.ideas.pull")
    with pytest.raises(UserError, match="'gpm' is taken"):
        Catalog().available("Method")


def test_names_need_no_torch(plugin: Callable[..., Path]) -> None:
    code = (
        "import sys; from bench.catalog.catalog import Catalog\n"
        f"assert 'mine' in Catalog.of([{str(plugin('mine'))!r}]).available('Method')\n"
        "Catalog().benchmark('toy')\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=installation.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
def test_a_package_travels_to_the_workers_of_ray(package: Path) -> None:
    plugins = (discovery.locate(Path("lab.ideas")),)
    request = plan.Request(["pull"], ["toy"], [0], epochs=1)
    cells, _ = Catalog.of(plugins).plan(request)
    resources = runner.Resources(catalog=Catalog.of(plugins))
    [result] = executed("ray", cells, resources)
    assert result.error is None
    assert result.matrix == runner.run_cell(cells[0], resources).matrix


FROZEN = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config(Method.Config):\n"
BAD: dict[str, tuple[str, int, str]] = {  # a class body, the line of the file (the body starts in 7), what is said
    "too few": ("def begin_task(self, task): ...", 7, "called as (self, task, data)"),
    "too many": ("x = 1\ndef end_task(self, task, data, more): ...", 8, "(self, task, data, more)"),
    "no classmethod": ("def unsupported(self, benchmark, training): ...", 7, "a classmethod"),
    "needless classmethod": ("@classmethod\ndef penalty(cls, x): ...", 8, "penalty"),
    "constructor": ("def __init__(self, network): ...", 7, "(self, network, config, generator)"),
    "no function": ("penalty = 0.0", 7, "penalty is a float"),
    "misspelt": ("def end_tasks(self, task, data): ...", 7, "did you mean 'end_task'"),
    "misspelt too": ("def edit_gradients(self): ...", 7, "did you mean 'edit_grads'"),
    "misspelt class": ("class Configs: ...", 7, "did you mean 'Config'"),
    "no default": (FROZEN + "    eps: float", 10, "the setting 'eps' of Config has no default"),
    "default late": (FROZEN + "    a: int = 1\n    b: int", 8, "'b' follows default argument"),
    "undecorated": ("class Config(Method.Config):\n    eps: float = 1.0", 7, "not frozen"),
    "not frozen": ("from dataclasses import dataclass\n@dataclass\nclass Config:\n    a: int = 1", 9, "not frozen"),
    "no class": ("Config = {}", 7, "not a class"),
    "import": ("x = 1\nimport no_such_module", 8, "does not import: ModuleNotFoundError"),
    "unknown need": ("needs = ('task-id at-test',)", 7, "did you mean 'task id at test'"),
    "needs in words": ("needs = 'attention'", 7, "not a tuple of names"),
    "unknown stage": ("stage = 'never'", 7, "stage is 'never', neither 'task' nor 'all'"),
    "a flag in words": ("trains_old_heads = 'yes'", 7, "trains_old_heads is 'yes', neither True nor False"),
    "a flag in numbers": ("x = 1\ncapturable = 1", 8, "capturable is 1, neither True nor False"),
    "an old name": ("@classmethod\ndef reads_old_data(cls, config): ...", 8, "it is old_data(config) now"),
    "an old flag": ("x = 1\njoint = True", 8, 'it is stage = "all" now'),
    "no hook": ("def logits(self, x, task): ...", 7, "logits is no hook"),
    "exit": ("raise SystemExit(3)", 7, "does not import: SystemExit"),
}


@pytest.mark.parametrize(("body", "line", "said"), BAD.values(), ids=BAD)
def test_a_bad_method_is_one_line(plugin: Callable[..., Path], body: str, line: int, said: str) -> None:
    path = plugin("bad", body)
    assert "bad" in Catalog.of([path]).available("Method")
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        Catalog.of([path]).method("bad")
    assert said in str(caught.value) and f"line {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


OLD_DATA = FROZEN + "    much: bool = False\n@classmethod\ndef old_data(cls, config):\n    return "


@pytest.mark.parametrize("answer", ["'some' if config.much else 'none'", "['all'] if config.much else 'all'"])
def test_old_data_that_nobody_knows_is_refused_with_its_line(
    command: Callable[..., Any], plugin: Callable[..., Path], tmp_path: Path, answer: str
) -> None:
    """Only with the settings that have it."""
    path = plugin("bad", OLD_DATA + answer)
    words = ("--plugin", path, "--methods", "bad", "--bench", "toy", "--out", tmp_path / "out", "--dry-run")
    assert command(*words).code == 0
    refused = command(*words, "--set", "bad.much=true")
    given = answer.split(" if")[0]
    assert (refused.code, refused.out) == (2, "")
    said = f"{path}, line 12: old_data gives {given}, none of 'none', 'stored', 'all'"
    assert refused.err.count("\n") == 1 and said in refused.err


@pytest.mark.parametrize("base", ["Method", "Own"])
def test_two_classes_in_one_file(plugin: Callable[..., Path], base: str) -> None:
    path = plugin("two")
    path.write_text(path.read_text() + f"\n\nclass Other({base}):\n    pass\n")
    with pytest.raises(UserError, match=r"two\.py, line 10: Other is a second class .* after Own in line 6"):
        Catalog.of([path]).available("Method")


@pytest.mark.parametrize("name", ["all", "a,b", "a.b", "a b"])
def test_a_file_whose_stem_is_no_name(plugin: Callable[..., Path], name: str) -> None:
    with pytest.raises(UserError, match="cannot be a name"):
        Catalog.of([plugin(name)]).available("Method")


LEFT = [
    ".#mine.py",
    "._mine.py",
    "mine (1).py",
    "mine copy.py",
    "Copy of mine.py",
    "mine.sync-conflict-2026.py",
    "sub.py",
]


@pytest.fixture
def littered(plugin: Callable[..., Path]) -> Path:
    """A folder with a method, and what editors, systems and copying leave beside it."""
    path = plugin("mine")
    folder = path.parent
    (folder / ".#mine.py").symlink_to("user@host.4711:1700000000")  # Emacs: it leads nowhere
    (folder / "._mine.py").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X\0\xff")
    for name in LEFT[2:-1]:
        (folder / name).write_bytes(path.read_bytes())
    (folder / "sub.py").mkdir()
    return folder


def test_what_editors_leave_in_a_folder_is_no_method(littered: Path) -> None:
    catalog = Catalog.of([littered])
    assert set(catalog.available("Method")) - set(Catalog().available("Method")) == {"mine"}
    assert catalog.method("mine").__name__ == "Own"
    assert sorted(path.name for path in catalog.left_aside()) == sorted(LEFT)
    assert Catalog().left_aside() == []


def test_each_of_them_is_said_in_a_line(littered: Path, command: Any) -> None:
    answer = command("list", "--plugin", littered)
    assert answer.code == 0 and " mine " in answer.out
    assert answer.err.count("is ignored") == len(LEFT)
    assert f"warning: {littered / 'mine (1).py'} is ignored" in answer.err


def test_in_the_folder_of_methods_too(littered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = installation.extensions
    monkeypatch.setattr(installation, "extensions", lambda name: littered if name == "methods" else place(name))
    assert list(Catalog().available("Method")) == ["mine"]
    assert len(Catalog().left_aside()) == len(LEFT)


def test_a_plugin_without_a_method(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    for place in (tmp_path, tmp_path / "empty.py"):
        with pytest.raises(UserError, match=re.escape(f"{place} has no class")):
            Catalog.of([place]).available("Method")


def test_a_flag_of_a_benchmark_in_words(tmp_path: Path) -> None:
    text = Path(installation.extensions("datasets") / "toy.py").read_text()
    path = tmp_path / "mine.py"
    path.write_text(text.replace("in_all = False", "in_all = 'no'"))
    with pytest.raises(UserError, match=r"mine\.py, line 16: in_all is 'no', neither True nor False"):
        Catalog.of([path]).benchmark("mine")


@pytest.mark.parametrize("missing", ["num_tasks", "num_classes", "input_shape", "stream"])
def test_an_incomplete_benchmark(tmp_path: Path, missing: str) -> None:
    lines = {n: f"    {n} = 1\n" for n in ("num_tasks", "num_classes", "input_shape")}
    lines["stream"] = "    def stream(self, seed, data): ...\n"
    path = tmp_path / "field.py"
    path.write_text("from bench.core import Benchmark\nclass Field(Benchmark):\n" + "".join(lines.values()))
    assert Catalog.of([path]).benchmark("field")
    path = tmp_path / "part.py"
    del lines[missing]
    path.write_text("from bench.core import Benchmark\nclass Field(Benchmark):\n" + "".join(lines.values()))
    with pytest.raises(UserError, match=rf"part\.py, line 2: Field does not define {missing}"):
        Catalog.of([path]).benchmark("part")


def test_the_methods_of_this_repository_fit() -> None:
    names = Catalog().available("Method")
    assert names
    for name in names:
        assert issubclass(Catalog().method(name), Method)


HEARD = {  # what a class may derive from: the file's imports, and the base
    "another name": ("from bench.training.method import Method as Base", "Base"),
    "its module": ("import bench.training.method as m", "m.Method"),
    "a built-in": ("from methods.ewc import EWC", "EWC"),
    "a built-in by another name": ("from methods.ewc import EWC as Old", "Old"),
    "a built-in by its module": ("from methods import ewc", "ewc.EWC"),
    "a built-in by its module, renamed": ("import methods.ewc as theirs", "theirs.EWC"),
    "a built-in, dotted": ("import methods.ewc", "methods.ewc.EWC"),
}


@pytest.mark.parametrize(("line", "base"), HEARD.values(), ids=HEARD)
def test_a_class_is_found_by_whatever_name_its_base_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, base: str
) -> None:
    monkeypatch.syspath_prepend(installation.ROOT)
    path = tmp_path / "mine.py"
    path.write_text(f'"""Mine."""\n{line}\n\nclass Mine({base}):\n    pass\n')
    catalog = Catalog.of([path])
    assert catalog.available("Method")["mine"] == path
    assert "mine" not in catalog.available("Benchmark")
    assert issubclass(catalog.method("mine"), Method)
    [[cell], _] = catalog.plan(plan.Request(["mine"], ["toy"], [0], 1))
    assert ("strength" in cell.config) == ("EWC" in base or base == "Old")


@pytest.mark.parametrize(
    ("line", "base"),
    [
        ("from methods.ewc import Tensor as EWC", "EWC"),
        ("from methods.no_such import EWC", "EWC"),
        ("import collections", "collections.OrderedDict"),
        ("from mine import Mine as Base", "Base"),
    ],
)
def test_a_class_that_derives_from_something_else_is_not_found(tmp_path: Path, line: str, base: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{line}\n\nclass Mine({base}):\n    pass\n")
    with pytest.raises(UserError, match="has no class that derives from Method or Benchmark"):
        Catalog.of([path]).available("Method")


def test_a_method_of_a_neighbour_is_inherited_with_its_version_and_its_code(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "base.py", tmp_path / "a" / "mine.py"
    first.parent.mkdir()
    first.write_text(METHOD + "    version = 3\n    strength = 1.0\n")
    second.write_text("from base import Own\n\n\nclass Mine(Own):\n    pass\n")
    assert [name for name, _ in discovery.offered("Method", first.parent)] == ["base", "mine"]
    assert discovery.version(second, "Method") == 3
    before = identity.digest_of_file(second)
    first.write_text(first.read_text().replace("1.0", "2.0"))
    assert identity.digest_of_file(second) != before


def test_a_digest_of_what_derives_from_a_built_in_method_depends_on_no_place(tmp_path: Path) -> None:
    digests = set()
    for folder in (tmp_path / "a", tmp_path / "b" / "c"):
        folder.mkdir(parents=True)
        (folder / "mine.py").write_text("from methods.ewc import EWC\n\n\nclass Mine(EWC):\n    pass\n")
        digests.add(identity.digest_of_file(folder / "mine.py"))
    [digest] = digests
    assert digest != identity.digest_of((folder / "mine.py").read_bytes()), "the built-in's code is part of it"


TYPED = {  # how editors and systems write a file, as bytes
    "a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "a mark and a coding line": lambda text: b"\xef\xbb\xbf# coding: utf-8\n" + text.encode(),
    "latin-1": lambda text: b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1"),
    "cp1252, in the second line": lambda text: (
        b"#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\n" + text.encode("cp1252")
    ),
    "lines of Windows": lambda text: text.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_a_file_is_read_as_python_reads_it(command: Any, tmp_path: Path, typed: Callable[[str], bytes]) -> None:
    path = tmp_path / "gruen.py"
    path.write_bytes(typed('"""Grün, by Zoë."""\n' + METHOD + '    word = "Grün"\n'))
    assert discovery.summary(path) == "Grün, by Zoë."
    assert Catalog.of([path]).method("gruen").word == "Grün"
    answer = command("list", "--plugin", path)
    assert answer.code == 0 and "Grün, by Zoë." in answer.out


def test_a_recipe_may_begin_with_a_mark(command: Any, tmp_path: Path, plugin: Callable[..., Path]) -> None:
    path = plugin("mine")
    path.with_suffix(".toml").write_bytes(b"\xef\xbb\xbf[toy]\r\nlr = 0.5\r\n")
    [[cell], _] = Catalog.of([path]).plan(plan.Request(["mine"], ["toy"], [0], 1))
    assert cell.training["lr"] == 0.5
    path.with_suffix(".toml").write_bytes(b"\xef\xbb\xbf[tyo]\r\nlr = 0.5\r\n")
    answer = command("--dry-run", "--methods", "mine", "--bench", "toy", "--plugin", path, "--out", tmp_path / "out")
    assert answer.code == 2 and "mine.toml, line 1: unknown table 'tyo': did you mean 'toy'?" in answer.err
    path.with_suffix(".toml").write_bytes(b"\xef\xbb\xbf[toy]\r\nlr = -1\r\n")
    answer = command("--dry-run", "--methods", "mine", "--bench", "toy", "--plugin", path, "--out", tmp_path / "out")
    assert answer.code == 2 and "mine.toml, line 2: " in answer.err
