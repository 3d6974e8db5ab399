"""Lines of code: those with something on them that is neither a comment nor documentation. Tests are not counted."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NO_CODE: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
# Comments, and what could hold something that looks like one or like a brace: strings and characters (not lifetimes).
_RUST: Final = re.compile(
    r"""(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)"""
    r"""|(?P<text>b?r(?P<hash>\#*)".*?"(?P=hash)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^']+|[^'\\\n])')""",
    re.DOTALL,
)
_TESTS: Final = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?mod\s+(?P<name>\w+)\s*(?P<opened>[;{])")


def python_lines(source: str) -> int:
    """Lines of Python; docstrings are documentation.

    Raises:
        SyntaxError: It is no Python.
    """
    documentation = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documentation |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - documentation)


def rust_lines(source: str) -> int:
    """Lines of Rust, without modules that are compiled for tests alone."""
    return sum(bool(line.strip()) for line in _without_tests(_blanked(source)).splitlines())


def rust_files(folder: Path) -> Iterator[Path]:
    """The files under a crate's src/ that are compiled when there is no test."""
    files = sorted(folder.rglob("*.rs"))
    tests = {test for path in files for test in _test_files(path)}
    return (path for path in files if tests.isdisjoint((path, *path.parents)))


def _blanked(source: str) -> str:
    """The source without comments, and with nothing in its strings; lines stay where they are."""

    def replace(match: re.Match[str]) -> str:
        filler = " " if match["comment"] else "_"
        return re.sub(r"[^\n]", filler, match[0])

    return _RUST.sub(replace, source)


def _without_tests(source: str) -> str:
    while (match := _TESTS.search(source)) is not None:
        end = match.end() if match["opened"] == ";" else _closing(source, match.end())
        source = source[: match.start()] + source[end:]
    return source


def _closing(source: str, at: int) -> int:
    """Behind the brace that closes the one before `at`."""
    depth = 1
    while depth and at < len(source):
        depth += {"{": 1, "}": -1}.get(source[at], 0)
        at += 1
    return at


def _test_files(path: Path) -> Iterator[Path]:
    """The file or folder of each module that this one declares for tests alone."""
    home = path.parent if path.name in ("lib.rs", "main.rs", "mod.rs") else path.with_suffix("")
    for match in _TESTS.finditer(_blanked(path.read_text())):
        yield home / f"{match['name']}.rs"
        yield home / match["name"]
