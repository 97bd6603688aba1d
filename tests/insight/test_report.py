# SPDX-License-Identifier: LGPL-3.0-or-later
"""The report of a training is one file that is complete, right, and asks for nothing."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from deepmd.insight.charts import COLORS, Axis
from deepmd.insight.evaluation import rmse
from deepmd.insight.page import evaluated
from deepmd.insight.run import read_run
from deepmd.main import main

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Collects tags, and that they are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))


@pytest.fixture(scope="module")
def page(short_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(short_run), "-o", str(path), "--log-level", "ERROR"]) == 0
    return path


def test_everything_is_inside(page):
    text = page.read_text()
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    for _, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|@import|fetch\(|XMLHttp|WebSocket", text)
    titles = " ".join(t for tag, t in parsed.texts if tag in ("b", "h2"))
    for wanted in (
        "Learning curves",
        "rmse_f",
        "Energy by system",
        "Force by element",
        "Virial by system",
        "Worst frames",
        "Time per step",
    ):
        assert wanted in titles
    # an error of all points, and not of the last word of the legend
    assert any(t.startswith("RMSE of all ") for tag, t in parsed.texts if tag == "span")
    charts = [a for tag, a in parsed.tags if tag in ("svg", "canvas")]
    assert all(a.get("aria-label") for a in charts)
    structures = [json.loads(t) for tag, t in parsed.texts if tag == "script" and t.startswith("{")]
    assert len(structures) == 6
    assert all(len(s["coord"]) == len(s["error"]) == len(s["color"]) == 8 for s in structures)


def test_errors_are_those_of_dp_test(short_run, tmp_path, monkeypatch):
    run = read_run(short_run)
    frames = [f for f in evaluated(run, 100) if f.kind == "validation"]
    monkeypatch.chdir(tmp_path)
    words = ["-m", str(run.model), "-s", str(short_run / "valid"), "--json", "e.json"]
    assert main(["test", *words, "--log-level", "ERROR"]) == 0
    known = json.loads((tmp_path / "e.json").read_text())["average"]
    assert rmse(frames, "force") == pytest.approx(known["rmse_force"], rel=1e-9)
    assert rmse(frames, "energy") == pytest.approx(known["rmse_energy_per_atom"], rel=1e-9)
    assert rmse(frames, "virial") == pytest.approx(known["rmse_virial_per_atom"], rel=1e-9)


def test_run_json_says_what_the_training_was(short_run):
    record = json.loads((short_run / "run.json").read_text())
    assert record["seed"] == 1
    assert record["step"] == 4
    assert record["backend"] == "NumPy"
    assert record["data"]["Default"]["training"][0]["frames"] == 12
    assert len(record["speed"]["seconds_per_step"]) == 4
    assert record["input"]["training"]["numb_steps"] == 4


def test_a_folder_that_is_no_training(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "no out.json here" in capsys.readouterr().err


def luminance(color):
    parts = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("color", COLORS)
def test_colors_stand_out_from_white(color):
    """Contrast of at least 3 to 1, as WCAG demands of graphics; ours have 4.5."""
    assert 1.05 / (luminance(color) + 0.05) >= 4.5


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[1.0, 1.0], [1e-9, 3.0], [0.13, 0.39], [5.0, 5e6], [0.999, 1.0]]
)
def test_ticks_lie_on_the_axis(values, log):
    axis = Axis(np.array(values), 10.0, 90.0, log=log)
    ticks = list(axis.ticks())
    assert all(10.0 <= place <= 90.0 for place, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    assert len(ticks) <= 16


@pytest.mark.slow  # starts a browser
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_in_a_browser(page, tmp_path, width):
    """No error in the console, nothing wider than the window, something is drawn."""
    program = next(
        (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
    )
    if program is None:
        pytest.skip("there is no Chromium")
    probe = tmp_path / "page.html"
    script = "<script>document.title='W'+document.documentElement.scrollWidth+' of '+innerWidth</script></body>"
    probe.write_text(page.read_text().replace("</body>", script))
    words = [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--window-size={width},900",
    ]
    done = subprocess.run(
        [*words, "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    found, inner = map(int, re.search(r"<title>W(\d+) of (\d+)</title>", done.stdout).groups())
    assert found <= inner


BROWSER = """#!/bin/sh
for word; do case "$word" in --print-to-pdf=*) out="${word#*=}";; file://*) page="${word#file://}";; esac; done
test "$(head -c 9 "$page")" = "<!DOCTYPE" || exit 3
%s
"""


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Write a program in the place of the browser."""

    def write(action):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/chromium"
        program.write_text(BROWSER % action)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")

    return write


def test_pdf(short_run, tmp_path, browser):
    browser('printf %%PDF-1.4 > "$out"')
    out = tmp_path / "r.pdf"
    arguments = ["-o", str(tmp_path / "r.html"), "--pdf", str(out), "-n", "3"]
    assert main(["report", str(short_run), *arguments]) == 0
    assert out.read_bytes().startswith(b"%PDF")


def test_no_pdf(short_run, tmp_path, monkeypatch, browser, capsys):
    out = tmp_path / "r.pdf"
    arguments = ["-o", str(tmp_path / "r.html"), "--pdf", str(out), "-n", "3"]
    browser("echo broken pipe >&2; exit 1")
    assert main(["report", str(short_run), *arguments]) == 1
    assert "chromium made no PDF: broken pipe" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deepmd.insight.printing.find_spec", lambda name: None)
    (tmp_path / "r.html").unlink()
    assert main(["report", str(short_run), *arguments]) == 1
    assert "neither Chromium nor WeasyPrint is installed" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow  # a real browser
def test_pdf_of_a_browser(page):
    from deepmd.insight.printing import BROWSERS, print_with_browser

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser of the Chromium family")
    data = print_with_browser(program, page.read_text())
    assert data.startswith(b"%PDF")
    assert len(data) > 20_000
