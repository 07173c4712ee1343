"""Every test asserts something outside loops and branches that may be empty, and more than `all` of nothing."""

import ast
import os
import re
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.rglob("test_*.py"))


def full(values: ast.expr) -> bool:
    """Whether what is looped over is spelt out, and is not empty."""
    spelt = isinstance(values, ast.Tuple | ast.List) and any(not isinstance(e, ast.Starred) for e in values.elts)
    return spelt or ast.unparse(values).startswith("range(")


def vacuous(test: ast.expr) -> bool:
    """Whether it is `all` of what may be nothing, or `not any`, or such joined by `and`."""
    if isinstance(test, ast.BoolOp):
        return all(map(vacuous, test.values))
    call, word = (test.operand, "any") if isinstance(test, ast.UnaryOp) else (test, "all")
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != word:
        return False
    return not any(full(part.iter) for part in getattr(call.args[0], "generators", ()))


def asserts(node: ast.AST) -> bool:
    """Whether a statement asserts something, whatever happens."""
    match node:
        case ast.Assert():
            return not vacuous(node.test)
        case ast.If():
            return any(map(asserts, node.body)) and any(map(asserts, node.orelse))
        case ast.For() if not full(node.iter):
            return False
        case ast.While() | ast.FunctionDef() | ast.ClassDef():
            return False
    called = [getattr(node, "value", None), *(item.context_expr for item in getattr(node, "items", ()))]
    words = [ast.unparse(call.func) for call in called if isinstance(call, ast.Call)]
    return any("assert" in word or "raises" in word for word in words) or any(map(asserts, getattr(node, "body", ())))


EXAMPLES = {
    "assert xs": True,
    "assert xs and all(xs)": True,
    "assert all(x > 0 for x in xs)": False,
    "assert not any(xs) and all(xs)": False,
    "for x in (1, 2):\n    assert x": True,
    "for x in (*xs, *xs):\n    assert x": False,
    "if xs:\n    assert x": False,
    "def check(x):\n    assert x": False,
    "with pytest.raises(E):\n    f()": True,
    "with f():\n    for x in xs:\n        np.testing.assert_equal(x, 1)": False,
}


@pytest.mark.parametrize(("code", "firm"), EXAMPLES.items(), ids=EXAMPLES)
def test_the_rule_knows_what_may_be_empty(code: str, firm: bool) -> None:
    assert any(map(asserts, ast.parse(code).body)) == firm


def test_no_code_refers_to_notes_that_are_not_here() -> None:
    """The number of one tells nothing without them: name the paper and its equation, or what is computed."""
    root = Path(__file__).resolve().parents[1]
    code: list[Path] = []
    for folder in ("bench", "methods", "datasets", "tests", "docs", "deploy"):
        code += (root / folder).rglob("*.py")
    assert len(code) > 200
    assert [path for path in code if re.search(r"\bK-\d", path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_test_passes_because_a_loop_is_empty(path: Path) -> None:
    """A test without a word of asserting hands that over, to a check or to what raises."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    told = [node for node in tests if re.search(r"assert|raises\(", ast.unparse(node))]
    assert [node.name for node in told if not any(map(asserts, node.body))] == []


@pytest.mark.ray
def test_what_starts_ray_is_in_a_group(request: pytest.FixtureRequest) -> None:
    """Several Rays at once on a small machine wait for each other; pytest-xdist keeps a group in one process."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests are in one process")
    assert request.node.nodeid.endswith("@ray")


def test_names_are_short(request: pytest.FixtureRequest) -> None:
    """One of a file's content was 200 MB long, and its setup took 25 seconds."""
    assert [item.nodeid[:100] for item in request.session.items if len(item.nodeid) > 300] == []
