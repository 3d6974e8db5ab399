"""The trusted computing base, counted: lines of our own, and apart from them what the trusted process loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from plinius.bench import paper
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.lines import python_lines, rust_files, rust_lines
from plinius.bench.loaded import Loaded, look
from plinius.bench.source import PACKAGE, source_tree
from plinius.errors import PliniusError


class Side(StrEnum):
    """Who runs it, which is who has to trust it."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    OWNER = "owner's"
    USER = "user's"
    TOOL = "not shipped"


SIDES: Final = {
    # The longest prefix of a path decides. What the trusted process loads is trusted, whatever it is for: a test
    # compares. It sees keys, weights and plaintext batches; a mistake anywhere in it can give them away.
    "enclave": (Side.TRUSTED, "the trusted process itself"),
    "pool": (Side.USER, "a pool in its user's process; no enclave has one open"),
    "pool/__init__.py": (Side.TRUSTED, "loaded in the trusted process"),
    "pool/bulk.py": (Side.TRUSTED, "what a mirror needs of a pool"),
    "pool/opened.py": (Side.UNTRUSTED, "has a pool open, for whoever carries ciphertext too"),
    "pool/outside.py": (Side.UNTRUSTED, "says what anybody may know of a pool"),
    "pool/paths.py": (Side.TRUSTED, "loaded in the trusted process"),
    "seal.py": (Side.TRUSTED, "keys"),
    "mirror": (Side.TRUSTED, "seals and opens"),
    "mirror/ciphertext.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "mirror/bounds.py": (Side.UNTRUSTED, "measures for `plinius bench mirror`"),
    "mirror/drained.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "mirror/drainer.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "mirror/draining.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "mirror/farend.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "mirror/moving.py": (Side.UNTRUSTED, "carries ciphertext; no enclave loads it"),
    "dataset": (Side.TRUSTED, "opens batches"),
    "darknet": (Side.TRUSTED, "computes with weights"),
    "state": (Side.TRUSTED, "gathers the state"),
    "frameworks": (Side.USER, "hold the state of a framework in its user's process; no enclave loads them"),
    "frameworks/__init__.py": (Side.TRUSTED, "loaded in the trusted process"),
    "frameworks/torch.py": (Side.TRUSTED, "gathers PyTorch's state"),
    "frameworks/torch_devices.py": (Side.TRUSTED, "the same on a GPU"),
    "attest": (Side.TRUSTED, "the enclave's side: evidence, manifest, key release, session, TPM"),
    "attest/dcap.py": (Side.OWNER, "verifies quotes"),
    "attest/fields.py": (Side.OWNER, "what the verifiers share"),
    "attest/snp.py": (Side.OWNER, "verifies reports"),
    "attest/snp_chain.py": (Side.OWNER, "verifies certificates"),
    "attest/snp_report.py": (Side.OWNER, "parses reports to verify them"),
    "attest/tpm2_verify.py": (Side.OWNER, "verifies quotes of a TPM"),
    "__init__.py": (Side.TRUSTED, "loaded with everything"),
    "errors.py": (Side.TRUSTED, "loaded with everything"),
    "files.py": (Side.TRUSTED, "loaded in the trusted process"),
    "lazily.py": (Side.TRUSTED, "loaded with everything"),
    "limits.py": (Side.TRUSTED, "loaded in the trusted process"),
    "process.py": (Side.TRUSTED, "hardens the trusted process"),
    "wire.py": (Side.TRUSTED, "parses what the host sends"),
    "host": (Side.UNTRUSTED, "starts the trusted process and carries messages; sees neither keys nor plaintext"),
    "bench": (Side.UNTRUSTED, "measures; never in a training"),
    "streams.py": (Side.UNTRUSTED, "where the commands read and write"),
    "__main__.py": (Side.UNTRUSTED, "starts the command"),
    "options.py": (Side.UNTRUSTED, "options of the commands"),
    "pool_file.py": (Side.UNTRUSTED, "tells a pool from other files, for the commands"),
    "cli.py": (Side.UNTRUSTED, "the command, on the host"),
    "moving_cli.py": (Side.UNTRUSTED, "carries ciphertext, on the host"),
    "inspection.py": (Side.UNTRUSTED, "says what anybody may know of a pool"),
    "doctor.py": (Side.UNTRUSTED, "looks at a machine"),
    "owner": (Side.OWNER, "runs at the owner's, who trusts herself"),
    "owner_cli.py": (Side.OWNER, "the owner's commands"),
    "broker_cli.py": (Side.OWNER, "the broker's commands; `plinius host`, the least of it, is untrusted"),
    "endpoint.py": (Side.OWNER, "where a broker listens; the host reads it too"),
}
"""Whose the files of the package are, by their path in it, and why."""

CRATES: Final = {
    "medium": (Side.TRUSTED, "the pool's file: mapped, stored to, flushed"),
    "pm": (Side.UNTRUSTED, "the pool: transactions, allocation, recovery; the host's"),
    "seal": (Side.TRUSTED, "keys, AES-GCM"),
    "mirror": (Side.TRUSTED, "seals into the pool and opens from it"),
    "secret": (Side.TRUSTED, "memory for keys"),
    "sandbox": (Side.TRUSTED, "Landlock and seccomp"),
    "binding": (Side.TRUSTED, "what both bindings share"),
    "py": (Side.TRUSTED, "what Python sees of the core"),
    "py-pm": (Side.UNTRUSTED, "what Python sees of the pool where no key is"),
    "explore": (Side.TOOL, "looks for crashes that lose something; no part of a release"),
}
"""The same for the crates."""
_LOADED_CRATES: Final = {f"crates/{name}" for name, (side, _) in CRATES.items() if side == Side.TRUSTED}
_BENCH: Final = "bench"
_SHOWN: Final = 8


@dataclass(frozen=True)
class Part:
    """Lines of one entry of the tables."""

    name: str
    side: str
    lines: int
    why: str


@dataclass(frozen=True)
class Found:
    """Everything.

    Attributes:
        crates: Whether the crates' sources were there; without them only Python is counted.
        parts: By entry.
        loaded: What the trusted process loads.
        loaded_lines: Lines of those of our Python modules that it loads: the others are for other frameworks and TEEs.
    """

    crates: bool
    parts: list[Part]
    loaded: Loaded
    loaded_lines: int

    def lines(self, side: Side, without: str = "") -> int:
        """Lines of one side, without one part."""
        return sum(part.lines for part in self.parts if part.side == side and part.name != without)

    @property
    def trusted_share(self) -> float:
        """Trusted lines of the trusted and untrusted ones, without what is never in a training."""
        trusted = self.lines(Side.TRUSTED)
        return trusted / (trusted + self.lines(Side.UNTRUSTED, without=_BENCH))

    @property
    def all_loaded_lines(self) -> int:
        """Lines that the trusted process loads, of Python and of the core."""
        return self.loaded_lines + sum(part.lines for part in self.parts if part.name in _LOADED_CRATES)

    @property
    def shipped_lines(self) -> int:
        """Lines of all that a release has."""
        return sum(self.lines(side) for side in Side if side != Side.TOOL)

    @property
    def loaded_share(self) -> float:
        """What the trusted process loads, of all that a release has."""
        return self.all_loaded_lines / self.shipped_lines

    @property
    def trusted_share_with_bench(self) -> float:
        """The same with the benches, which anybody may leave out of an installation."""
        trusted = self.lines(Side.TRUSTED)
        return trusted / (trusted + self.lines(Side.UNTRUSTED))


@dataclass(frozen=True)
class TrustedComputingBase:
    """The experiment."""

    name: str = "tcb"
    title: str = "Trusted computing base: lines of code, and what the trusted process loads"

    def measure(self, plan: Plan) -> Result:  # noqa: ARG002 (counting needs no plan)
        """Counts."""
        root = source_tree()
        parts = [*_python_parts(PACKAGE), *(_crate_parts(root / "crates") if root else ())]
        loaded = look()
        found = Found(root is not None, parts, loaded, sum(python_lines(_source(name)) for name in loaded.own))
        result: Result = msgspec.to_builtins(asdict(found))
        return result

    def draw(self, result: Result, path: Path) -> None:
        """Draws the parts, by side."""
        from plinius.bench.tcb_plot import plot  # noqa: PLC0415 (it needs matplotlib)

        plot(_found(result), path)

    def rows(self, result: Result) -> list[Row]:
        """Lines by side and part, and what is loaded."""
        found = _found(result)
        trusted, whole = paper.number("tcb.trusted_lines"), paper.number("tcb.all_lines")
        papers_share = f"{trusted.value / whole.value:.0%} (computed from its lines)"
        ours, others = found.lines(Side.TRUSTED), found.lines(Side.UNTRUSTED, without=_BENCH)
        rows = [
            Row("our own trusted lines", f"{ours:,}", str(trusted)),
            Row("our own trusted and untrusted lines, without the benches", f"{ours + others:,}", str(whole)),
            Row("trusted share of these", f"{found.trusted_share:.0%}", papers_share),
            Row(
                "reduction: untrusted share of these",
                f"{1 - found.trusted_share:.0%}",
                str(paper.number("tcb.reduction")),
            ),
            Row("trusted share if the benches count as untrusted", f"{found.trusted_share_with_bench:.0%}"),
            Row(
                "our own lines that the trusted process loads, of all that are shipped",
                f"{found.all_loaded_lines:,} of {found.shipped_lines:,}: {found.loaded_share:.0%}",
            ),
            Row("the owner's lines, in neither", f"{found.lines(Side.OWNER):,}"),
            Row("lines for users' own processes, which they trust whole, in neither", f"{found.lines(Side.USER):,}"),
            Row("tools that no release has, in neither", f"{found.lines(Side.TOOL):,}"),
        ]
        parts = [Row(f"{part.name} ({part.side}: {part.why})", f"{part.lines:,} lines") for part in found.parts]
        return [*rows, *_loaded_rows(found), *parts]

    def meaning(self, result: Result) -> str:
        """The share, and that it is the smaller part of the truth."""
        found = _found(result)
        loaded = found.loaded
        counted = "" if found.crates else " (Python only: the crates' sources are not here)"
        return (
            f"Of our own lines in a training on the untrusted machine {found.trusted_share:.0%} are trusted{counted}; "
            f"of all that are shipped the trusted process loads {found.loaded_share:.0%}. It also loads "
            f"{len(loaded.objects)} shared objects of {loaded.megabytes:,.0f} MB and "
            f"{sum(loaded.modules.values()):,} Python modules, nearly all of them others', which weigh far more."
        )


def entry_of(path: str) -> str:
    """The entry of `SIDES` that says whose a file is.

    Args:
        path: In the package, such as ``mirror/saving.py``.

    Raises:
        PliniusError: No entry covers it.
    """
    covering = [entry for entry in SIDES if path == entry or path.startswith(f"{entry}/")]
    if not covering:
        raise PliniusError(f"plinius/{path} is on no side: give it an entry in plinius.bench.tcb.SIDES")
    return max(covering, key=len)


def _python_parts(package: Path) -> Iterator[Part]:
    counted = dict.fromkeys(SIDES, 0)
    for path in sorted(package.rglob("*.py")):
        counted[entry_of(path.relative_to(package).as_posix())] += python_lines(path.read_text())
    for entry, lines in counted.items():
        side, why = SIDES[entry]
        yield Part(entry, side.value, lines, why)


def _crate_parts(crates: Path) -> Iterator[Part]:
    for crate in sorted(path.parent for path in crates.glob("*/Cargo.toml")):
        side, why = CRATES[crate.name]
        lines = sum(rust_lines(path.read_text()) for path in rust_files(crate / "src"))
        yield Part(f"crates/{crate.name}", side.value, lines, why)


def _source(module: str) -> str:
    """Of one of our modules; nothing of the core, which is compiled."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found.read_text() if found.is_file() else ""


def _loaded_rows(found: Found) -> list[Row]:
    loaded = found.loaded
    most = sorted(loaded.modules.items(), key=lambda item: -item[1])[:_SHOWN]
    largest = sorted(loaded.objects.items(), key=lambda item: -item[1])[:_SHOWN]
    return [
        Row("shared objects that the trusted process loads", f"{len(loaded.objects)}, {loaded.megabytes:,.0f} MB"),
        Row("Python modules that it loads", f"{sum(loaded.modules.values()):,}"),
        Row("our own Python lines that it loads", f"{found.loaded_lines:,}"),
        *(Row(f"shared object {name}", f"{size / 1e6:,.1f} MB") for name, size in largest),
        *(Row(f"Python modules of {name}", f"{count:,}") for name, count in most),
    ]


def _found(result: Result) -> Found:
    return msgspec.convert(result, Found)


EXPERIMENT: Final = TrustedComputingBase()
