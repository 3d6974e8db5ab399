"""Usage errors, and files that are never overwritten: one line each, and an exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inside import Command
from jobs import PLINIUS, Done, Job, contents, environment, must
from plinius import cli
from plinius.cli import EXIT_CODES, exit_code
from plinius.errors import PliniusError
from plinius.inspection import describe
from plinius.owner.jobs import read_manifest

USAGE, OPTION_OR_FILE = 2, 3

Refusal = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "trian"),
        (["train"], "cfg"),
        (["train", "net.cfg", "--pool", "p", "--data", "d"], "--key"),
        (["seal", "--key", "k", "--images", "i"], "--labels"),
        (["keygen"], "path"),
        (["keygen", "a", "b"], "b"),
        (["status"], "pool"),
    ],
)
def test_a_command_that_is_not_complete(refusal: Refusal, arguments: list[str], words: str) -> None:
    line = refusal(USAGE, *arguments)
    assert words in line.lower().replace("cfg.", "")
    assert line.endswith("see: plinius --help")


@pytest.mark.parametrize(
    "options",
    [
        ["--stepz", "3"],
        ["--steps", "abc"],
        ["--steps", "0"],
        ["--steps", "-5"],
        ["--steps", "9" * 30],
        ["--every", "0"],
        ["--seed", "-1"],
        ["--seed", "9" * 30],
        ["--threads", "0"],
        ["--restarts", "-1"],
        ["--reveal", "weights"],
    ],
)
def test_an_option_that_is_wrong(refusal: Refusal, job: Job, options: list[str]) -> None:
    line = refusal(USAGE, *job.train(), *options)
    assert options[0] in line
    assert not job.pool.exists()


@pytest.mark.parametrize(("option", "most"), [("--keep", 1000), ("--threads", 1024), ("--every", (1 << 40) - 1)])
def test_a_number_that_is_too_large(refusal: Refusal, job: Job, option: str, most: int) -> None:
    """By the same limits as an enclave's, but before one is started."""
    words = f'Invalid value "{most + 1}" for {option}. Choose a number from 1 to {most}; see: plinius --help'
    assert refusal(USAGE, *job.train()[:-2], option, most + 1) == words
    assert not job.pool.exists()
    manifest = ["manifest", job.cfg, "--job", "digits", "--data", job.data, "--identity", "i", "--output", "m"]
    assert refusal(USAGE, *manifest, option, most + 1) == words


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "-x", "a" * 101])
def test_a_name_that_no_job_can_have(refusal: Refusal, name: str) -> None:
    line = refusal(USAGE, "manifest", "c", f"--job={name}", "--data", "d", "--identity", "i", "--output", "m")
    assert f'"{name}" for --job. A job\'s name has 1 to 100 of A-Z' in line


def test_a_manifest_for_another_build(inside: Command, refusal: Refusal, job: Job, tmp_path: Path) -> None:
    assert inside("keygen", "--signing", tmp_path / "identity").code == 0
    made = tmp_path / "manifest"
    manifest = ["manifest", job.cfg, "--job", "digits", "--data", job.data, "--identity", tmp_path / "identity"]
    assert inside(*manifest, "--output", made, "--code", "Ab" * 32).code == 0
    assert read_manifest(str(made))[0].code == b"\xab" * 32
    assert "64 hexadecimal digits" in refusal(USAGE, *manifest, "--output", tmp_path / "other", "--code", "ab")


def test_a_step_that_no_model_has(refusal: Refusal, folder: Path, trained: Job) -> None:
    assert "Choose a number from 0" in refusal(USAGE, *trained.export(folder / "net.weights"), "--step", -1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["keygen", ""],
        ["status", ""],
        ["doctor", ""],
        ["move", "a", "b", "--name", ""],
        ["keygen", "k", "--recipient", ""],
    ],
)
def test_an_empty_name(refusal: Refusal, arguments: list[str]) -> None:
    assert "It is empty" in refusal(USAGE, *arguments)


def test_an_unknown_command_is_answered_with_the_nearest_and_not_with_some(refusal: Refusal) -> None:
    assert refusal(USAGE, "statu") == 'Unknown command "statu". Did you mean "status"; see: plinius --help'
    assert refusal(USAGE, "bench", "figures") == 'Unknown command "figures"; see: plinius --help'


def test_a_cipher_that_does_not_exist(refusal: Refusal, folder: Path) -> None:
    assert "aes-256-gcm" in refusal(OPTION_OR_FILE, "keygen", folder / "k", "--cipher", "rot13")
    assert not (folder / "k").exists()


def test_key_files_are_never_overwritten(refusal: Refusal, files: Path, folder: Path) -> None:
    existing = shutil.copyfile(files / "job.key", folder / "job.key")
    assert "is not overwritten" in refusal(OPTION_OR_FILE, "keygen", existing)
    assert existing.read_bytes() == (files / "job.key").read_bytes()


def test_a_key_that_others_may_read(refusal: Refusal, job: Job, folder: Path) -> None:
    open_to_all = Path(shutil.copyfile(job.key, folder / "open.key"))
    open_to_all.chmod(0o644)
    assert refusal(OPTION_OR_FILE, *job.but(key=open_to_all).train()) == (
        f"{open_to_all}: others may read this key file; run: chmod 600 {open_to_all}"
    )


def seal_command(files: Path, output: Path, images: str = "images.idx", labels: str = "labels.idx") -> list[object]:
    idx = ["--images", files / images, "--labels", files / labels]
    return ["seal", "--key", files / "job.key", *idx, "--output", output]


def test_images_and_labels_in_each_others_place(refusal: Refusal, files: Path, folder: Path) -> None:
    exchanged = seal_command(files, folder / "d", images="labels.idx", labels="images.idx")
    assert refusal(OPTION_OR_FILE, *exchanged) == (
        f"{files / 'labels.idx'}: images have three dimensions, these 1; are these the labels?"
    )
    twice = seal_command(files, folder / "d", labels="images.idx")
    assert "are these images?" in refusal(OPTION_OR_FILE, *twice)
    assert contents(folder) == {}


def test_an_existing_data_set_is_not_overwritten(refusal: Refusal, files: Path) -> None:
    before = contents(files)
    assert "this file exists" in refusal(OPTION_OR_FILE, *seal_command(files, files / "data.sealed"))
    assert contents(files) == before


@pytest.mark.parametrize("name", ["model.txt", "model", "model.weights.bak"])
def test_an_export_of_an_unknown_format(refusal: Refusal, trained: Job, folder: Path, name: str) -> None:
    line = refusal(OPTION_OR_FILE, *trained.export(folder / name))
    assert line == f"{folder / name}: export to a name that ends in .weights or .safetensors"


def test_an_export_does_not_overwrite(refusal: Refusal, trained: Job, folder: Path) -> None:
    (folder / "model.weights").write_bytes(b"precious")
    assert "this file exists" in refusal(OPTION_OR_FILE, *trained.export(folder / "model.weights"))
    assert (folder / "model.weights").read_bytes() == b"precious"


@pytest.mark.parametrize("command", ["seal", "export", "keygen"])
def test_an_output_in_a_folder_that_does_not_exist(
    refusal: Refusal, files: Path, trained: Job, folder: Path, command: str
) -> None:
    output = folder / "nowhere" / "out.weights"
    arguments = {"seal": seal_command(files, output), "export": trained.export(output), "keygen": ["keygen", output]}
    assert "No such file or directory" in refusal(OPTION_OR_FILE, *arguments[command])


def test_every_command_has_help() -> None:
    overview = must("--help").out
    for command in ("keygen", "seal", "train", "infer", "export", "status", "doctor"):
        assert command in overview
    assert "Measure on this machine" in overview
    assert "Ctrl-C" in must("train", "--help").out
    assert "content is not read" in " ".join(must("doctor", "--help").out.replace("│", " ").split())
    assert "--empty" not in must("bench", "sps", "--help").out


def test_every_error_has_an_exit_code() -> None:
    kinds = [PliniusError, *EXIT_CODES]
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert [exit_code(kind("what")) for kind in kinds] == [1, *EXIT_CODES.values()]


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["--version"]])
def test_a_reader_that_is_gone_ends_it_without_a_word(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PLINIUS, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["train"]])
def test_a_standard_output_that_is_full(job: Job, arguments: list[str]) -> None:
    command = job.train("--steps", 1) if arguments == ["train"] else arguments
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([PLINIUS, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"plinius: cannot write to standard output: {os.strerror(28)}\n")


def closed(streams: str, *arguments: object) -> Done:
    """Runs a command with some of its standard streams closed."""
    shell = ["sh", "-c", f'exec "$0" "$@" {streams}', PLINIUS, *map(str, arguments)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_is_not_missed(tmp_path: Path, streams: str) -> None:
    done = closed(streams, "doctor")
    assert (done.code, done.err) == (0, "")
    assert done.out or streams == ">&-"
    assert closed(streams, "status", tmp_path / "missing").code == OPTION_OR_FILE


def test_a_closed_stream_is_not_taken_for_a_file_of_the_job(job: Job) -> None:
    assert closed("<&- >&- 2>&-", *job.train("--steps", 1)).code == 0
    assert describe(str(job.pool))["mirrors"][0]["step"] == 1


def test_ctrl_c_while_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-P", "-m", "plinius", "doctor"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(PYTHONPATH=paths), check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (130, "plinius: stopped; nothing was written\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [("keygen", "stopped"), ("train", "stopped at once; what was reported durable is kept")],
)
def test_ctrl_c_is_answered_with_what_is_kept(
    inside: Command, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    done = inside(command)
    assert (done.code, done.err) == (130, f"plinius: {words}\n")
