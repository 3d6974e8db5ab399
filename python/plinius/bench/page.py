"""The report as one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from importlib import resources
from string import Template
from typing import Final

from plinius.bench.experiment import Row
from plinius.bench.machine import Machine
from plinius.bench.records import Settings

# More rows than these are folded away; the first ones say the most.
_SHOWN_ROWS: Final = 16


@dataclass(frozen=True)
class Section:
    """One experiment on the page.

    Attributes:
        name: Its name.
        title: A line for people.
        meaning: What it means, in a sentence.
        rows: The result beside the paper's.
        image: The figure, as PNG.
        measured: When, and how long it took.
        warning: What a reader has to know of the machine at that time.
        missing: Why there is no result; then there is nothing of the others.
    """

    name: str
    title: str
    meaning: str = ""
    rows: Sequence[Row] = field(default_factory=list)
    image: bytes = b""
    measured: str = ""
    warning: str = ""
    missing: str = ""


def render(machine: Machine, settings: Settings, sections: Sequence[Section], now: datetime) -> str:
    """The page."""
    template = Template(resources.files("plinius.bench").joinpath("page.html").read_text())
    facts = {
        "CPU": f"{machine.cpu}, {machine.cores} cores",
        "Kernel": machine.kernel,
        "Pools on": f"{settings.memory}: {machine.memory}",
        "Disk": f"{settings.disk}: {machine.disk}",
        "Data": settings.data or "none given: made here, where that is possible",
        "Size": "quick: fewer points and rounds" if settings.quick else "full",
        "Written": now.isoformat(timespec="seconds"),
        "Versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
    }
    return template.substitute(
        machine="".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()),
        contents="".join(_entry(section) for section in sections),
        sections="".join(_section(section) for section in sections),
        count=sum(not section.missing for section in sections),
        of=len(sections),
    )


def _entry(section: Section) -> str:
    state = "" if not section.missing else ' class="missing"'
    return f'<li{state}><a href="#{escape(section.name)}">{escape(section.title)}</a></li>'


def _section(section: Section) -> str:
    name, title = escape(section.name), escape(section.title)
    if section.missing:
        body = f'<p class="missing">No result: {escape(section.missing)}</p>'
    else:
        image = base64.b64encode(section.image).decode()
        body = (
            f'<p class="meaning">{escape(section.meaning)}</p>{_warning(section.warning)}'
            f'<figure><img alt="{title}" src="data:image/png;base64,{image}"></figure>'
            f"{_tables(section.rows)}"
            f'<p class="measured">Measured {escape(section.measured)}; numbers: {name}.json</p>'
        )
    return f'<section id="{name}"><h2>{title}</h2>{body}</section>'


def _warning(text: str) -> str:
    return f'<p class="warning">{escape(text)}</p>' if text else ""


def _tables(rows: Sequence[Row]) -> str:
    first, rest = rows[:_SHOWN_ROWS], rows[_SHOWN_ROWS:]
    folded = f"<details><summary>{len(rest)} more rows</summary>{_table(rest)}</details>" if rest else ""
    return _table(first) + folded


def _table(rows: Sequence[Row]) -> str:
    head = "<thead><tr><th>What</th><th>Ours, here</th><th>The paper</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(_row(row) for row in rows)}</tbody></table>"


def _row(row: Row) -> str:
    none = "" if row.paper else ' class="none"'
    return (
        f'<tr><th scope="row">{escape(row.what)}</th><td data-of="ours">{escape(row.ours)}</td>'
        f'<td data-of="paper"{none}>{escape(row.paper) or "&ndash;"}</td></tr>'
    )
