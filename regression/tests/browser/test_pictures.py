"""The pictures of docs/report.md, taken of a bridge that places experts wrongly."""

from pathlib import Path

from typer.testing import CliRunner

from mtp_regression.commands.app import app

from .conftest import Look

IMAGES = Path(__file__).parents[3] / "docs" / "images"
MOST = 150_000
"""Bytes of a picture."""
LAYOUTS = ("tp1", "tp2", "pp2", "ep2", "tp2 ep2", "ep4")


def test_pictures_of_a_failing_run(tmp_path: Path, look: Look) -> None:
    words = [
        "roundtrip",
        "--adapter",
        "mtp_regression.mutants.bridges:experts-in-turn",
        "--html",
        str(tmp_path / "page.html"),
    ]
    words += [f"--parallel={layout}" for layout in LAYOUTS] + ["--report", str(tmp_path / "report.json")]
    words += [f"--stage={stage}" for stage in ("native", "stream", "saved")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 1
    IMAGES.mkdir(exist_ok=True)
    size = {"width": 900, "height": 740}
    light = look(tmp_path / "page.html", color_scheme="light", **size)
    light.screenshot(path=IMAGES / "report-light.png")
    dark = look(tmp_path / "page.html", color_scheme="dark", place="#case-5", **size)
    dark.screenshot(path=IMAGES / "report-dark.png")
    light.emulate_media(media="print")
    light.evaluate("document.body.style.margin = '12mm'")  # the paper's, which a screen has not
    light.screenshot(path=IMAGES / "report-print.png")
    pictures = {path.stem: path.read_bytes() for path in IMAGES.glob("report-*.png")}
    assert sorted(pictures) == ["report-dark", "report-light", "report-print"]
    assert len(set(pictures.values())) == 3
    assert max(map(len, pictures.values())) < MOST
