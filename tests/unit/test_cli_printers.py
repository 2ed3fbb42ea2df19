"""How events look: as on a terminal, and as JSON for programs."""

import json
from pathlib import Path

import pytest

from codecontext.v1 import execution_pb2 as pb
from codecontext_service.cli import exits
from codecontext_service.cli.printers import JsonPrinter, TextPrinter
from codecontext_service.cli.results import ImageFiles

PNG = b"\x89PNG\r\n"


def result(*parts: pb.MimePart, **fields) -> pb.ExecutionEvent:
    return pb.ExecutionEvent(result=pb.Result(parts=parts, **fields))


def text(content: str, kind: str = "text/plain") -> pb.MimePart:
    return pb.MimePart(mime_type=kind, text=content)


def image(content: bytes = PNG) -> pb.MimePart:
    return pb.MimePart(mime_type="image/png", data=content)


def completed(outcome: str, **fields) -> pb.ExecutionEvent:
    number = pb.ExecutionOutcome.Value(f"EXECUTION_OUTCOME_{outcome}")
    return pb.ExecutionEvent(completed=pb.ExecutionCompleted(outcome=number, **fields))


def show(*events: pb.ExecutionEvent, images: Path | None = None) -> ImageFiles:
    files = ImageFiles(images)
    printer = TextPrinter(files)
    for event in events:
        printer.show(event)
    return files


def test_output_is_the_bytes_that_came(capfdbinary) -> None:
    """Output goes through as bytes, also where it is no text, each to its own stream."""
    show(pb.ExecutionEvent(stdout=b"\xff\x00a"), pb.ExecutionEvent(stderr=b"\xe2\x82"))
    assert capfdbinary.readouterr() == (b"\xff\x00a", b"\xe2\x82")


def test_result_begins_a_line(capfd) -> None:
    """A result's text stands on a line of its own after output that left one open."""
    show(pb.ExecutionEvent(stdout=b"a"), result(text("5"), is_main_result=True))
    assert capfd.readouterr() == ("a\n5\n", "")


def test_result_in_parts(capfd) -> None:
    """A result that came in several events is shown once, whole."""
    show(result(text("ab"), image(b"1"), continued=True), result(text("c"), image(b"2")))
    out, err = capfd.readouterr()
    assert out == "abc\n"
    assert err == "[image/png, 2 B; save with --images DIR]\n"


def test_result_that_cannot_be_shown_is_named(capfd) -> None:
    """A result without a text or an image is not passed over: standard error says what it is."""
    show(result(text("<b>é</b>", "text/html")))
    assert capfd.readouterr() == ("", "[text/html, 9 B; `run --json` shows it]\n")


def test_saved_images(tmp_path: Path, capfd) -> None:
    """Images are saved in their order, and standard error says where."""
    directory = tmp_path / "new" / "images"
    show(result(image()), result(text("<svg/>", "image/svg+xml")), images=directory)
    assert (directory / "image-1.png").read_bytes() == PNG
    assert (directory / "image-2.svg").read_text() == "<svg/>"
    assert capfd.readouterr().err == (
        f"[image/png, 6 B: {directory}/image-1.png]\n"
        f"[image/svg+xml, 6 B: {directory}/image-2.svg]\n"
    )


def test_image_that_cannot_be_saved(tmp_path: Path, capfd) -> None:
    """An image that can't be saved is told of, and the rest goes on."""
    (tmp_path / "image-1.png").mkdir()
    files = show(result(image()), pb.ExecutionEvent(stdout=b"on"), images=tmp_path)
    out, err = capfd.readouterr()
    assert (out, files.failed) == ("on", True)
    assert "not saved" in err


def test_error_is_its_traceback(capfd) -> None:
    """An error's traceback goes to standard error; nothing more is said about it."""
    error = pb.ExecutionError(name="E", value="v", traceback=["Traceback", "E: v"])
    show(pb.ExecutionEvent(error=error), completed("RAISED", state_kept=True))
    assert capfd.readouterr() == ("", "Traceback\nE: v\n")


def test_lost_state_is_said(capfd) -> None:
    """An end that is not the code's own is said in one line, with the loss of the state."""
    show(completed("CRASHED", message="signal 11"))
    assert capfd.readouterr().err == "codecontext: CRASHED: signal 11 (the state is lost)\n"


def test_gap_is_said(capfd) -> None:
    """Missing output is said where it is missing."""
    gap = pb.Gap(events=3, bytes=2048, reason=pb.GAP_REASON_OUTPUT_BUDGET)
    show(pb.ExecutionEvent(gap=gap))
    assert "3 events, 2.0 KiB, OUTPUT_BUDGET" in capfd.readouterr().err


def test_lone_surrogates(capfd) -> None:
    """Text that can't be encoded is shown with replacements."""
    printer = TextPrinter(ImageFiles(None), prompt="\ud800{}")
    printer.show(result(text("x"), is_main_result=True))
    assert capfd.readouterr().out == "?0x\n"


def test_json_lines(capfd) -> None:
    """Each event is one line; split characters are put together, binary content is base64."""
    printer = JsonPrinter()
    for event in (
        pb.ExecutionEvent(sequence=1, started=pb.ExecutionStarted(execution_count=3)),
        pb.ExecutionEvent(stdout="é".encode()[:1]),
        pb.ExecutionEvent(stdout="é".encode()[1:], late=True),
        pb.ExecutionEvent(stderr=b"\xff\xe2"),
        result(image(), text("p"), is_main_result=True),
        pb.ExecutionEvent(clear_output=pb.ClearOutput()),
        pb.ExecutionEvent(gap=pb.Gap(events=1)),
        completed("SUCCEEDED", state_kept=True),
    ):
        printer.show(event)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == [
        "started",
        "stdout",
        "stdout",
        "stderr",
        "result",
        "clear_output",
        "gap",
        "stderr",
        "completed",
    ]
    assert lines[0]["execution_count"] == 3
    assert [lines[1]["text"], lines[2]["text"], lines[2]["late"]] == ["", "é", True]
    assert [lines[3]["text"], lines[7]["text"]] == ["\ufffd", "\ufffd"]
    assert lines[4]["data"] == {"image/png": "iVBORw0K", "text/plain": "p"}
    assert lines[5]["wait"] is False
    assert lines[6]["events"] == 1
    assert lines[8]["outcome"] == "SUCCEEDED"


@pytest.mark.parametrize("name", pb.ExecutionOutcome.keys())
def test_every_outcome_has_a_status(name: str) -> None:
    """Only success is 0; what the service did to the run is told apart from what the code did."""
    outcome = name.removeprefix("EXECUTION_OUTCOME_")
    expected = {
        "SUCCEEDED": 0,
        "RAISED": 1,
        "INTERRUPTED": 1,
        "CRASHED": 1,
        "OUT_OF_MEMORY": 1,
        "TIMED_OUT": 124,
    }
    assert exits.of_outcome(outcome) == expected.get(outcome, 3)
