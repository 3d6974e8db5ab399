"""Parses ``.cfg`` files, Darknet's description of a network (Darknet: src/parser.c, src/option_list.c).

The bytes are not trusted. What comes out is complete and consistent: typed sections with Darknet's defaults,
the shape of every layer, and nothing that the network or the trainer would have to check again. What Darknet
passes over with a warning (keys and words that it does not know, text where a number belongs) is an error
here, because it would train another network than the one that was meant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from plinius.darknet.net import NET_NAMES, Net, Policy
from plinius.darknet.sections import SECTIONS, UNSUPPORTED, Cost, Section, Softmax
from plinius.darknet.shapes import Shape, largest_tensor, output_shape, parameter_count
from plinius.darknet.values import INT_MAX, number, shown
from plinius.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
MAX_SECTIONS = 4096

_Kind = TypeVar("_Kind", Net, Section)


class _Entry(NamedTuple):
    """The text of one key, and its line."""

    text: str
    line: int


class _Raw(NamedTuple):
    """One section as it stands in the file."""

    name: str
    line: int
    entries: dict[str, _Entry]


@dataclass(frozen=True)
class Config:
    """A whole network.

    Attributes:
        net: The ``[net]`` section.
        sections: The layers, in the file's order.
        shapes: The output of each layer for one image.
        not_applied: Keys that are present and read, but change nothing here (augmentation), each named once.
        path: The file's name, for messages.
    """

    net: Net
    sections: tuple[Section, ...]
    shapes: tuple[Shape, ...]
    not_applied: tuple[str, ...]
    path: str

    @property
    def input_shape(self) -> Shape:
        """One image."""
        return Shape(self.net.channels, self.net.height, self.net.width)

    @property
    def outputs(self) -> int:
        """How many numbers the network predicts for one image (Darknet: get_network_output_layer)."""
        return self.shapes[-1].size

    @property
    def parameters(self) -> int:
        """How many float32 values the network keeps in a ``.weights`` file."""
        inputs = (self.input_shape, *self.shapes)
        return sum(map(parameter_count, self.sections, inputs))


def parse(text: bytes, path: str) -> Config:
    """Parses the bytes of a ``.cfg`` file.

    Args:
        text: The file's bytes.
        path: Its name, for messages; it is not opened.

    Returns:
        The network that the file describes.

    Raises:
        ConfigError: If any of it is wrong or not supported, with file, line and section.
    """
    raws = _read_sections(_lines(text, path), path)
    if not raws:
        raise ConfigError("there is no section: a network begins with [net]", path=path)
    first, *rest = raws
    if first.name not in NET_NAMES:
        raise _error("the first section must be [net]", first, path)
    if not rest:
        raise _error("there is no layer after [net]", first, path)
    net = _check_net(_build(first, Net, path), first, path)
    sections = tuple(_layer(raw, index, path) for index, raw in enumerate(rest))
    config = Config(net, sections, _shapes(net, rest, sections, path), _not_applied(raws), path)
    _check_costs(config, rest)
    return config


def _lines(text: bytes, path: str) -> Iterator[tuple[int, str]]:
    """Yields the lines that say something, numbered from 1, without any blanks, as Darknet reads them."""
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(f"{len(text)} bytes is too large for a .cfg file, at most {MAX_FILE_BYTES}", path=path)
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigError("this is not a text file in UTF-8; give a .cfg file", path=path, line=line) from None
    if "\0" in decoded:
        line = decoded.count("\n", 0, decoded.index("\0")) + 1
        raise ConfigError("this is a binary file; give a .cfg file", path=path, line=line)
    for number_of_line, line_text in enumerate(decoded.split("\n"), start=1):
        stripped = line_text.removesuffix("\r").replace(" ", "").replace("\t", "")
        if stripped and stripped[0] not in "#;":
            yield number_of_line, stripped


def _read_sections(lines: Iterable[tuple[int, str]], path: str) -> list[_Raw]:
    raws: list[_Raw] = []
    for line, text in lines:
        if text.startswith("["):
            if not text.endswith("]"):
                raise ConfigError(f"{shown(text)} is not a section's name: write [name]", path=path, line=line)
            if len(raws) > MAX_SECTIONS:
                raise ConfigError(f"more than {MAX_SECTIONS} layers", path=path, line=line)
            raws.append(_Raw(text[1:-1], line, {}))
        elif not raws:
            raise ConfigError(f"{shown(text)} stands before the first section, [net]", path=path, line=line)
        else:
            _read_entry(raws[-1], text, line, path)
    return raws


def _read_entry(raw: _Raw, text: str, line: int, path: str) -> None:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise _error(f"{shown(text)} is not of the form key=value", raw, path, line)
    if key in raw.entries:
        raise _error(f"{_key(key)} was given on line {raw.entries[key].line} already: keep one", raw, path, line)
    raw.entries[key] = _Entry(value, line)


def _key(key: str) -> str:
    """Gives a key for a message; nobody vouches for those that are not known, so they are escaped and cut."""
    return shown(key)[1:-1]


def _error(message: object, raw: _Raw, path: str, line: int | None = None) -> ConfigError:
    return ConfigError(str(message), path=path, line=line or raw.line, section=shown(raw.name)[1:-1])


def _key_error(key: str, why: object, raw: _Raw, path: str) -> ConfigError:
    line = raw.entries[key].line if key in raw.entries else raw.line
    return _error(f"{_key(key)}: {why}", raw, path, line)


def _layer(raw: _Raw, index: int, path: str) -> Section:
    """Turns one section into its typed form; ``index`` counts layers from 0, as ``from`` does."""
    if raw.name in SECTIONS:
        return _build(raw, SECTIONS[raw.name], path, index)
    if raw.name in NET_NAMES:
        message = "a second [net]: a network has one, at its beginning"
    elif raw.name in UNSUPPORTED:
        message = "Darknet has this layer, but it is not supported here: use classifier layers only"
    else:
        message = f"this layer is not known: use one of {', '.join(SECTIONS)}"
    raise _error(message, raw, path)


def _build(raw: _Raw, kind: type[_Kind], path: str, index: int = 0) -> _Kind:
    fields = {field.metadata["key"] or field.name: field for field in dataclasses.fields(kind) if field.metadata}
    values: dict[str, Any] = {}
    for key, entry in raw.entries.items():
        try:
            if key in fields:
                values[fields[key].name] = fields[key].metadata["read"](entry.text)
            else:
                _check_other_key(key, entry.text, kind, fields)
        except ValueError as error:
            raise _key_error(key, error, raw, path) from None
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and field.name not in values:
            raise _key_error(key, "is missing, and has no default: add it", raw, path)
    if issubclass(kind, Section):
        try:
            values = kind.complete(values, index)
        except ValueError as error:
            raise _error(error, raw, path) from None
    return kind(line=raw.line, **values)


def _check_other_key(key: str, text: str, kind: type[Net | Section], fields: Mapping[str, object]) -> None:
    if key not in kind.ignored and key not in kind.must_be:
        known = ", ".join(sorted(fields.keys() | kind.ignored))
        raise ValueError(f"is not known or not supported here: correct or remove it (there are {known})")
    value = number()["read"](text)
    if key in kind.must_be and value != kind.must_be[key]:
        raise ValueError(f"{shown(text)} is not supported here: remove it or set it to {kind.must_be[key]:g}")


def _check_net(net: Net, raw: _Raw, path: str) -> Net:
    if net.batch % net.subdivisions:
        why = f"{net.subdivisions} does not divide batch = {net.batch}"
        raise _key_error("subdivisions", why, raw, path)
    size = net.channels * net.height * net.width
    if net.inputs not in (None, size):
        why = f"{net.inputs} is not channels x height x width, {size}: remove it"
        raise _key_error("inputs", why, raw, path)
    if net.batch // net.subdivisions * size > INT_MAX:
        raise _error(_too_large("the input"), raw, path)
    if net.policy is Policy.POLY and net.max_batches == 0:
        raise _key_error("policy", "poly needs max_batches: add it", raw, path)
    if net.policy is Policy.STEPS and (not net.steps or len(net.steps) != len(net.scales)):
        why = f"{len(net.steps)} steps but {len(net.scales)} scales: give as many of each"
        raise _key_error("steps", why, raw, path)
    return net


def _too_large(what: str) -> str:
    return f"{what} would take more than {INT_MAX} numbers, Darknet's limit: use smaller sizes"


def _shapes(net: Net, raws: list[_Raw], sections: tuple[Section, ...], path: str) -> tuple[Shape, ...]:
    shapes = [Shape(net.channels, net.height, net.width)]
    parameters = 0
    for raw, section in zip(raws, sections, strict=True):
        try:
            output = output_shape(section, shapes[-1], shapes[1:])
        except ValueError as error:
            raise _error(error, raw, path) from None
        parameters += parameter_count(section, shapes[-1])
        values = net.batch // net.subdivisions * largest_tensor(section, shapes[-1], output)
        if max(parameters, values) > INT_MAX:
            raise _error(_too_large("this layer"), raw, path)
        shapes.append(output)
    return tuple(shapes[1:])


def _check_costs(config: Config, raws: list[_Raw]) -> None:
    """Checks that each layer that is compared with the truth has as many outputs as the network."""
    for index, (raw, section) in enumerate(zip(raws, config.sections, strict=True)):
        if isinstance(section, Cost) and index < len(raws) - 1:
            raise _error("a cost must be the last section", raw, config.path)
        outputs = config.shapes[index].size
        if isinstance(section, Softmax) and not section.noloss and outputs != config.outputs:
            message = f"{outputs} outputs, but the network has {config.outputs}: add noloss=1"
            raise _error(message, raw, config.path)


def _not_applied(raws: list[_Raw]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for raw in raws:
        ignored = Net.ignored if raw.name in NET_NAMES else SECTIONS[raw.name].ignored
        names |= dict.fromkeys(key for key in raw.entries if key in ignored)
    return tuple(names)
