"""The folder is the registry, and plugins take the same road."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import installation
from bench.catalog import discovery, identity
from bench.catalog.catalog import Catalog
from bench.core import UserError

ROOT = installation.ROOT
METHODS = sorted((ROOT / "methods").glob("*.py"))
DATASETS = sorted((ROOT / "datasets").glob("*.py"))


def test_the_folders_are_the_registry() -> None:
    assert set(Catalog().available("Method")) == {path.stem for path in METHODS}
    assert set(Catalog().available("Benchmark")) == {path.stem for path in DATASETS}


def test_every_file_has_a_summary_and_the_name_of_its_stem() -> None:
    assert METHODS and DATASETS
    for path in (*METHODS, *DATASETS):
        assert discovery.summary(path)
    for name in Catalog().available("Benchmark"):
        assert Catalog().benchmark(name).name == name


def test_a_plugin_file(plugin: Callable[..., Path]) -> None:
    path = plugin("mine", "answer = 42")
    assert Catalog.of([path]).available("Method")["mine"] == path
    assert Catalog.of([path]).method("mine").answer == 42
    assert discovery.summary(path) == "The method mine."
    assert "mine" not in Catalog().available("Method")
    assert "mine" not in Catalog.of([path]).available("Benchmark")


def test_a_plugin_folder_with_a_benchmark_and_its_recipe(plugin: Callable[..., Path]) -> None:
    folder = plugin("one").parent
    plugin("two")
    (folder / "helper.py").write_text("x = 1\n")
    body = "    num_tasks, num_classes, input_shape = 4, 2, (1,)\n\n    def stream(self, seed, data): ...\n"
    (folder / "field.py").write_text(f"from bench.core import Benchmark\n\nclass Field(Benchmark):\n{body}")
    (folder / "field.toml").write_text("[training]\nepochs = 7\n")
    assert set(Catalog.of([folder]).available("Method")) - set(Catalog().available("Method")) == {"one", "two"}
    assert Catalog.of([folder]).benchmark("field").num_tasks == 4
    assert Catalog.of([folder]).recipe("field") == {"training": {"epochs": 7}}


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown method 'gpmm': did you mean 'gpm'"):
        Catalog().method("gpmm")
    with pytest.raises(UserError, match="unknown benchmark 'digit': did you mean 'digits'"):
        Catalog().benchmark("digit")


def test_a_name_taken_twice_names_both_files(plugin: Callable[..., Path]) -> None:
    path = plugin("gpm")
    with pytest.raises(UserError, match="taken") as caught:
        Catalog.of([path]).available("Method")
    assert str(path) in str(caught.value)
    assert str(ROOT / "methods" / "gpm.py") in str(caught.value)


def test_the_same_plugin_twice_is_one(plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = plugin("mine")
    assert "mine" in Catalog.of([path, path.parent]).available("Method")
    monkeypatch.chdir(path.parent)
    assert "mine" in Catalog.of([path, Path("mine.py")]).available("Method")


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "no.py"))):
        Catalog.of([tmp_path / "no.py"]).available("Method")


@pytest.mark.parametrize("text", ["def broken(:\n", "x = '\0'\n", "# caf\xe9\n"])
def test_a_plugin_that_is_no_python_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=re.escape(str(path))):
        Catalog.of([path]).available("Method")


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = (\n")
    with pytest.raises(UserError, match="line 2"):
        Catalog.of([path]).available("Method")


def test_a_plugin_that_fails_on_import_is_named(plugin: Callable[..., Path]) -> None:
    path = plugin("raises", "1 / 0")
    assert "raises" in Catalog.of([path]).available("Method")  # found without being run
    with pytest.raises(UserError, match=r"raises\.py does not import: ZeroDivisionError"):
        Catalog.of([path]).method("raises")


def test_a_broken_recipe_is_named(plugin: Callable[..., Path]) -> None:
    folder = plugin("one").parent
    (folder / "field.py").write_text("from bench.core import Benchmark\n\nclass Field(Benchmark): ...\n")
    (folder / "field.toml").write_text("[training\n")
    with pytest.raises(UserError, match=r"field\.toml"):
        Catalog.of([folder]).recipe("field")


CODE = "from bench.training.method import Method\nclass M(Method):\n    def f(self):\n        return 1\n"


def digest_of(tmp_path: Path, code: str) -> str:
    path = tmp_path / f"v{len(list(tmp_path.iterdir()))}" / "m.py"
    path.parent.mkdir()
    path.write_text(code)
    return identity.digest_of(Catalog.of([path]).path("Method", "m").read_text())


@pytest.mark.parametrize(
    "same",
    [
        "# why\n" + CODE,
        '"""What."""\n' + CODE,
        CODE.replace("    def", '    """What."""\n\n    def'),
        CODE.replace("return 1", '"""What."""\n        return (1)  # why'),
        CODE.replace("\n", "\n\n"),
        CODE.replace("from bench.training.method import", "from somewhere.moved import"),
        CODE.replace("    def f", "    version = 3\n\n    def f"),
    ],
)
def test_the_digest_ignores_words_and_layout(tmp_path: Path, same: str) -> None:
    """Whether or not there were any before."""
    assert digest_of(tmp_path, same) == digest_of(tmp_path, CODE)


def test_the_digest_ignores_changed_words(tmp_path: Path) -> None:
    def worded(text: str) -> str:
        return f'"""{text}"""\n' + CODE.replace("return", f'"""{text}"""\n        return')

    assert digest_of(tmp_path, worded("Old.")) == digest_of(tmp_path, worded("New."))


@pytest.mark.parametrize(("old", "new"), [("return 1", "return 2"), ("def f", "def g"), ("return 1", "return '1'")])
def test_the_digest_sees_code(tmp_path: Path, old: str, new: str) -> None:
    assert digest_of(tmp_path, CODE) != digest_of(tmp_path, CODE.replace(old, new))
