"""Parsing ``.cfg`` files: what is read, and what is refused with which words."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plinius.darknet.cfg import MAX_FILE_BYTES, MAX_SECTIONS, Config, parse
from plinius.darknet.net import Net, Policy
from plinius.darknet.sections import (
    Activation,
    Avgpool,
    Connected,
    Convolutional,
    Cost,
    CostType,
    Crop,
    Dropout,
    Maxpool,
    Route,
    Section,
    Shortcut,
    Softmax,
    Upsample,
)
from plinius.darknet.shapes import Shape
from plinius.darknet.values import INT_MAX
from plinius.errors import ConfigError

CFGS = sorted((Path(__file__).parent / "cfg").glob("*.cfg"))
NET = "[net]\nheight=8\nwidth=8\nchannels=2\n"


def read(body: str) -> Config:
    return parse((NET + body).encode(), "a.cfg")


def only(body: str) -> Section:
    (section,) = read(body).sections
    return section


def test_defaults_are_those_of_darknet() -> None:
    net = read("[connected]").net
    assert net == Net(
        line=1,
        height=8,
        width=8,
        channels=2,
        batch=1,
        subdivisions=1,
        learning_rate=0.001,
        momentum=0.9,
        decay=0.0001,
        policy=Policy.CONSTANT,
        burn_in=0,
        power=4.0,
        max_batches=0,
    )


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (
            "[convolutional]",
            Convolutional(line=5, filters=1, size=1, stride=1, padding=0, groups=1, activation=Activation.LOGISTIC),
        ),
        ("[connected]", Connected(line=5, output=1, activation=Activation.LOGISTIC)),
        ("[maxpool]", Maxpool(line=5, stride=1, size=1, padding=0)),
        ("[avgpool]", Avgpool(line=5)),
        ("[softmax]", Softmax(line=5, groups=1, temperature=1.0, noloss=False)),
        ("[cost]", Cost(line=5, type=CostType.SSE, scale=1.0)),
        ("[upsample]", Upsample(line=5, stride=2, scale=1.0)),
        ("[crop]", Crop(line=5, crop_height=1, crop_width=1, flip=False, noadjust=False)),
    ],
)
def test_defaults_of_layers_are_those_of_darknet(text: str, section: Section) -> None:
    assert only(text) == section


def test_defaults_that_depend_on_other_keys() -> None:
    assert only("[maxpool]\nstride=2") == Maxpool(line=5, stride=2, size=2, padding=1)
    assert only("[maxpool]\nstride=2\nsize=3\npadding=0") == Maxpool(line=5, stride=2, size=3, padding=0)
    padded = only("[convolutional]\nsize=5\npad=1\npadding=7")
    assert isinstance(padded, Convolutional)
    assert padded.padding == 2
    own = only("[convolutional]\nsize=5\npadding=3")
    assert isinstance(own, Convolutional)
    assert own.padding == 3


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("conv", "convolutional"),
        ("conn", "connected"),
        ("max", "maxpool"),
        ("avg", "avgpool"),
        ("soft", "softmax"),
    ],
)
def test_aliases(short: str, full: str) -> None:
    assert only(f"[{short}]") == only(f"[{full}]")
    assert parse(NET.replace("net", "network").encode() + b"[conv]", "a.cfg").net == read("[conv]").net


def test_blanks_comments_and_windows_line_ends() -> None:
    text = "\ufeff# first\r\n[ net ]\r\n; second\r\n height = 8 \r\nwidth\t=8\r\nchannels=2\r\n"
    text += "policy=steps\r\nsteps = 10, 20\r\nscales= .1 , 1e-2\r\n\r\n[connected]\r\noutput = 1 0\r\n"
    config = parse(text.encode(), "a.cfg")
    assert (config.net.steps, config.net.scales) == ((10, 20), (0.1, 0.01))
    assert config.outputs == 10


def test_places_counted_back_become_absolute() -> None:
    config = read("[conv]\n[conv]\n[shortcut]\nfrom=-2\n[route]\nlayers=-1,0\n[dropout]")
    shortcut, route, _ = config.sections[2:]
    assert isinstance(shortcut, Shortcut)
    assert isinstance(route, Route)
    assert shortcut.source == 0
    assert route.layers == (2, 0)


def test_keys_that_are_not_applied_are_named_once() -> None:
    text = b"[net]\nheight=8\nwidth=8\nchannels=2\nhue=.1\nangle=7\nmax_crop=9\n"
    config = parse(text + b"[crop]\ncrop_height=4\ncrop_width=4\nangle=0\nshift=1\n[connected]", "a.cfg")
    assert config.not_applied == ("hue", "angle", "max_crop", "shift")


def test_keys_with_the_value_that_changes_nothing_are_accepted() -> None:
    assert only("[conv]\nbinary=0\nflipped=0\nstopbackward=0") == only("[conv]")


def test_shapes_follow_darknet() -> None:
    body = "[conv]\nsize=3\nstride=2\nfilters=4\n[max]\nsize=2\nstride=2\n[upsample]\n[avg]\n[route]\nlayers="
    images = (Shape(4, 3, 3), Shape(4, 2, 2), Shape(4, 4, 4), Shape(4))
    assert read(body + "0,0,0").shapes == (*images, Shape(12, 3, 3))
    assert read(body + "1,0").shapes == (*images, Shape(4 * 2 * 2 + 4 * 3 * 3, is_image=False))
    assert read("[connected]\noutput=5\n[softmax]").shapes == (Shape(5), Shape(5, is_image=False))


REFUSED = [
    ("", 1, "net", "no layer after"),
    ("[connected]\noutputs=3", 6, "connected", "outputs: is not known"),
    ("[connected]\noutput=3\noutput=3", 7, "connected", "output was given on line 6"),
    ("[connected]\noutput=three", 6, "connected", "output: 'three' is not a whole number"),
    ("[connected]\noutput=3.5", 6, "connected", "is not a whole number"),
    ("[connected]\noutput=3#classes", 6, "connected", "a comment needs a line of its own"),
    ("[connected]\noutput=0", 6, "connected", "out of range"),
    ("[connected]\noutput=-1", 6, "connected", "out of range"),
    ("[connected]\noutput=99999999999", 6, "connected", "not a whole number"),
    ("[connected]\noutput=2147483648", 6, "connected", "out of range"),
    ("[connected]\noutput=", 6, "connected", "not of the form key=value"),
    ("[connected]\noutput", 6, "connected", "not of the form key=value"),
    ("[connected]\n=3", 6, "connected", "not of the form key=value"),
    ("[connected]\nactivation=gelu", 6, "connected", "'gelu' is not known: use one of linear, logistic"),
    ("[connected]\nlearning_rate=nan", 6, "connected", "is not a number"),
    ("[connected]\nlearning_rate=1e39", 6, "connected", "out of range"),
    ("[connected]\nlearning_rate=-1", 6, "connected", "out of range"),
    ("[dropout]", 5, "dropout", "cannot begin with"),
    ("[conv]\n[dropout]\nprobability=1", 7, "dropout", "out of range"),
    ("[softmax]\ntemperature=0", 6, "softmax", "above 0"),
    ("[softmax]\ngroups=3", 5, "softmax", "does not divide the 128 inputs"),
    ("[softmax]\nspatial=1", 6, "softmax", "not supported here: remove it or set it to 0"),
    ("[softmax]\n[connected]", 5, "softmax", "noloss=1"),
    ("[softmax]\n[conv]", 6, "conv", "must give an image"),
    ("[cost]\n[conn]", 5, "cost", "must be the last"),
    ("[cost]\ntype=wgan", 6, "cost", "wgan is not for classifiers"),
    ("[conv]\ngroups=2\nfilters=3", 5, "conv", "does not divide the 3 filters"),
    ("[conv]\ngroups=3\nfilters=3", 5, "conv", "does not divide the 2 channels"),
    ("[conv]\nsize=9", 5, "conv", "larger than the padded input"),
    ("[conv]\nxnor=1", 6, "conv", "xnor: '1' is not supported here"),
    ("[maxpool]\nsize=9\npadding=0", 5, "maxpool", "larger than the padded input"),
    ("[maxpool]\nsize=2\npadding=4", 5, "maxpool", "without any input"),
    ("[maxpool]\nsize=2\nstride=9\npadding=9", 5, "maxpool", "without any input"),
    ("[crop]\ncrop_height=9\ncrop_width=8", 5, "crop", "crops 9x8 out of only 8x8"),
    ("[conv]\n[crop]", 6, "crop", "must be the first"),
    ("[shortcut]\nfrom=-1", 5, "shortcut", "there is none"),
    ("[conv]\n[shortcut]", 6, "shortcut", "from: is missing"),
    ("[conv]\n[shortcut]\nfrom=1", 6, "shortcut", "does not name a layer before this one"),
    ("[conv]\n[shortcut]\nfrom=-2", 6, "shortcut", "does not name a layer before this one"),
    ("[conv]\n[route]\nlayers=0,5", 6, "route", "give 0 to 0, or -1 to -1"),
    ("[conv]\n[route]\nlayers=0,,0", 7, "route", "'' is not a whole number"),
    ("[crop]\ncrop_height=6\ncrop_width=4\n[conv]\nsize=3\n[shortcut]\nfrom=0", 10, "shortcut", "same ratio"),
    ("[upsample]\nstride=0", 5, "upsample", "does not divide"),
    ("[upsample]\nstride=-3", 5, "upsample", "does not divide"),
    ("[yolo]\nmask=0", 5, "yolo", "Darknet has this layer, but it is not supported"),
    ("[lstm]", 5, "lstm", "Darknet has this layer, but it is not supported"),
    ("[attention]", 5, "attention", "this layer is not known: use one of convolutional"),
    ("[net]", 5, "net", "a second [net]"),
    ("[conv", 5, None, "is not a section's name"),
]


@pytest.mark.parametrize(("body", "line", "section", "words"), REFUSED, ids=[body for body, *_ in REFUSED])
def test_refused_with_file_line_section_and_reason(body: str, line: int, section: str | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(body)
    assert (caught.value.path, caught.value.line, caught.value.section) == ("a.cfg", line, section)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("batch=3\nsubdivisions=2", "does not divide batch = 3"),
        ("policy=poly", "poly needs max_batches"),
        ("policy=random", "random could not be repeated by a run that resumes"),
        ("policy=cosine", "'cosine' is not known"),
        ("policy=steps\nsteps=1,2\nscales=.1", "2 steps but 1 scales"),
        ("policy=steps", "0 steps but 0 scales"),
        ("adam=1", "not supported here"),
        ("inputs=9", "remove it"),
        ("momentum=1", "out of range"),
        ("hue=much", "is not a number"),
        ("batch=40000000", "Darknet's limit"),
    ],
)
def test_net_refused(keys: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"\[net\]") as caught:
        parse((NET + keys + "\n[connected]").encode(), "a.cfg")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "there is no section"),
        (b"# nothing\n\n", "there is no section"),
        (b"a=1\n[net]\n", "before the first section"),
        (b"[conv]\n", "the first section must be [net]"),
        (b"[net]\nwidth=1\nheight=1\n[conn]", "channels: is missing"),
        (b"[net]\n\xff\xfe\n", "line 2: this is not a text file"),
        (b"[net]\n\0\n", "line 2: this is a binary file"),
        (b"#" * (MAX_FILE_BYTES + 1), "too large"),
        (b"[net]\nwidth=1\nheight=1\nchannels=1\n" + b"[conn]\n" * 5000, "more than 4096 layers"),
    ],
)
def test_files_refused(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "a.cfg")
    assert words in str(caught.value)


def test_the_largest_file_and_the_most_layers_are_read() -> None:
    head = (NET + "[avgpool]\n" * MAX_SECTIONS).encode() + b"#"
    config = parse(head.ljust(MAX_FILE_BYTES, b"#"), "a.cfg")
    assert len(config.sections) == MAX_SECTIONS
    with pytest.raises(ConfigError, match="more than 4096 layers"):
        parse(head.replace(b"#", b"[avgpool]"), "a.cfg")


def test_as_many_parameters_as_darknet_can_count_are_read() -> None:
    body = "[net]\nheight=1\nwidth=1\nchannels={}\n[connected]\noutput=1\n"
    assert parse(body.format(INT_MAX - 1).encode(), "a.cfg").parameters == INT_MAX
    with pytest.raises(ConfigError, match="more than 2147483647 numbers"):
        parse(body.format(INT_MAX).encode(), "a.cfg")


def test_a_softmax_without_loss_may_have_another_number_of_outputs() -> None:
    assert read("[softmax]\nnoloss=1\n[connected]\noutput=3").outputs == 3
    with pytest.raises(ConfigError, match="128 outputs, but the network has 3: add noloss=1"):
        read("[softmax]\n[connected]\noutput=3")


@pytest.mark.parametrize(
    "body",
    [
        "[conv]\nfilters=2000000000",
        "[connected]\noutput=100000000",
        "[upsample]\nstride=100000",
        "[conv]\npadding=1000000",
        "[maxpool]\nsize=100000\nstride=100000\npadding=199990",
        "[connected]\noutput=30000\n" * 4,
    ],
)
def test_sizes_that_would_fill_the_memory_are_refused(body: str) -> None:
    with pytest.raises(ConfigError, match="more than 2147483647 numbers"):
        read(body)


def test_messages_escape_what_could_garble_a_terminal() -> None:
    with pytest.raises(ConfigError) as caught:
        read("[\x1b[31m" + "x" * 100 + "]")
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        read("[conn]\n\x1b[31m=1")
    assert "\x1b" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse(text, "a.cfg")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_parses_or_is_refused(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(CFGS)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 9)))
        text[start:stop] = data.draw(st.binary(max_size=3) | st.sampled_from([b"-", b"0", b"999999", b"[", b"\n"]))
    with contextlib.suppress(ConfigError):
        config = parse(bytes(text), "a.cfg")
        assert len(config.shapes) == len(config.sections)


def test_every_cfg_of_plinius_and_darknet_parses() -> None:
    if "PLINIUS_DATA" not in os.environ:
        pytest.skip("PLINIUS_DATA does not name the folder with the cfg files of Plinius and Darknet")
    paths = sorted(Path(os.environ["PLINIUS_DATA"], "cfg").glob("*.cfg"))
    assert len(paths) >= 14
    outputs = {path.stem: parse(path.read_bytes(), path.name).outputs for path in paths}
    assert outputs["plinius-mnist"] == 10
    assert outputs["darknet-vgg-16"] == 1000


def test_dropout_keeps_the_shape() -> None:
    config = read("[conv]\nfilters=3\n[dropout]")
    assert config.sections[1] == Dropout(line=7, probability=0.5)
    assert config.shapes[0] == config.shapes[1]
