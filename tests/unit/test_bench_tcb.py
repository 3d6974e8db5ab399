"""The count of the trusted computing base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plinius.bench import tcb
from plinius.bench.experiment import Plan
from plinius.bench.lines import python_lines, rust_files, rust_lines
from plinius.bench.source import PACKAGE, source_tree
from plinius.bench.tcb import SIDES, Side, entry_of
from plinius.errors import PliniusError

PYTHON = '''"""Documentation
of two lines."""

import os  # code

# a comment
def f(
    a: int,
) -> str:
    """Documentation."""
    return """text
    # of three lines, code
    """
'''
RUST = """
//! Documentation.
use std::fmt; // code
/* a comment
   of two lines */
fn f<'a>(text: &'a str) -> char {
    let url = "http://not a comment {";
    let raw = r#"a " { // quote"#;
    '{'
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing() { assert!(true); }
}
const AFTER: u8 = b'}';
"""


def test_lines_of_python_are_those_that_are_neither_blank_nor_comment_nor_documentation() -> None:
    assert python_lines(PYTHON) == 7
    assert python_lines("") == 0


def test_lines_of_rust_are_those_that_are_neither_blank_nor_comment_nor_test() -> None:
    assert rust_lines(RUST) == 7


def test_files_that_are_compiled_for_tests_alone_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for name, text in {
        "lib.rs": 'mod log;\n#[cfg(test)]\n#[path = "x"]\nmod scratch;\n',
        "scratch.rs": "",
        "log.rs": "#[cfg(test)]\nmod tests;\nmod kept;",
        "log/tests.rs": "",
        "log/kept.rs": "",
    }.items():
        (tmp_path / name).write_text(text)
    found = [path.relative_to(tmp_path).as_posix() for path in rust_files(tmp_path)]
    assert found == ["lib.rs", "log/kept.rs", "log.rs"]


def test_every_file_is_on_a_side_and_every_entry_has_a_file() -> None:
    entries = {entry_of(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")}
    assert entries == set(SIDES)
    with pytest.raises(PliniusError, match="is on no side"):
        entry_of("new.py")
    assert entry_of("attest/dcap.py") == "attest/dcap.py"
    assert entry_of("attest/tpm.py") == "attest"


def test_it_counts_draws_and_nothing_that_the_trusted_process_loads_is_called_untrusted(tmp_path: Path) -> None:
    plan = Plan(quick=True, memory=tmp_path, disk=tmp_path, data=None, tell=lambda _: None)
    result = json.loads(json.dumps(tcb.EXPERIMENT.measure(plan)))
    loaded = result["loaded"]["own"]
    assert "plinius.enclave.trainer" in loaded
    for name in loaded:
        path = PACKAGE.parent.joinpath(*name.split("."))
        if path.is_dir() or path.with_suffix(".py").exists():
            file = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(PACKAGE)
            assert SIDES[entry_of(file.as_posix())][0] == Side.TRUSTED, name
    assert any(name.startswith("libtorch") for name in result["loaded"]["objects"])
    assert any(name.startswith("_core") for name in result["loaded"]["objects"])

    tcb.EXPERIMENT.draw(result, tmp_path / "tcb.png")
    assert (tmp_path / "tcb.png").read_bytes().startswith(b"\x89PNG")
    rows = {row.what: row for row in tcb.EXPERIMENT.rows(result)}
    names = {part["name"] for part in result["parts"]}
    assert ("crates/pm" in names) == result["crates"] == (source_tree() is not None)
    lines = {side: sum(part["lines"] for part in result["parts"] if part["side"] == side) for side in Side}
    assert rows["our own trusted lines"].ours == f"{lines[Side.TRUSTED]:,}"
    assert rows["our own trusted lines"].paper.startswith("15,900 lines")
    [bench] = [part["lines"] for part in result["parts"] if part["name"] == "bench"]
    share = lines[Side.TRUSTED] / (lines[Side.TRUSTED] + lines[Side.UNTRUSTED] - bench)
    assert rows["trusted share of these"].ours == f"{share:.0%}"
    assert f"{share:.0%} are trusted" in tcb.EXPERIMENT.meaning(result)
    shipped = sum(count for side, count in lines.items() if side != Side.TOOL)
    assert f" of {shipped:,}: " in rows["our own lines that the trusted process loads, of all that are shipped"].ours
    with_bench = lines[Side.TRUSTED] / (lines[Side.TRUSTED] + lines[Side.UNTRUSTED])
    assert rows["trusted share if the benches count as untrusted"].ours == f"{with_bench:.0%}"


@pytest.mark.skipif(source_tree() is None, reason="the crates are not here: the package is installed without them")
def test_every_crate_is_on_a_side() -> None:
    root = source_tree()
    assert root is not None
    assert {path.parent.name for path in (root / "crates").glob("*/Cargo.toml")} == set(tcb.CRATES)
    counted = {part.name: part.lines for part in tcb._crate_parts(root / "crates")}
    assert counted.keys() == {f"crates/{name}" for name in tcb.CRATES}
    assert all(counted.values())
