# SPDX-License-Identifier: LGPL-3.0-or-later
"""A report as PDF, printed by a browser or by WeasyPrint, whichever is installed."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from deepmd.base.errors import NotAvailableError, OutputError
from deepmd.base.files import replacing

log = logging.getLogger(__name__)

#: Browsers that print without a window, by the names of their programs.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Seconds after which a browser is given up.
_PATIENCE = 240.0


def printer() -> Callable[[str], bytes]:
    """Return the function that makes PDF of a page.

    Raises
    ------
    NotAvailableError
        If nothing that can is installed.
    """
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return lambda text: print_with_browser(path, text)
    if find_spec("weasyprint") is not None:
        return print_with_weasyprint
    raise NotAvailableError(
        "neither Chromium nor WeasyPrint is installed",
        where="--pdf",
        fix="install chromium, or pip install weasyprint; or print the HTML file from a browser",
    )


def print_with_browser(program: str, text: str) -> bytes:
    """Print a page with a browser of the Chromium family; its scripts run."""
    with tempfile.TemporaryDirectory(prefix="dp-report-") as folder:
        page, out = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(text, encoding="utf-8")
        command = [program, "--headless", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={folder}/profile", "--no-first-run"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # which root cannot have
        command += ["--virtual-time-budget=10000", f"--print-to-pdf={out}", page.as_uri()]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            reason = f"no answer within {_PATIENCE:g} s"
        data = out.read_bytes() if out.is_file() else b""
    if not data.startswith(b"%PDF"):
        raise OutputError(f"{os.path.basename(program)} made no PDF: {reason}", where="--pdf")
    return data


def print_with_weasyprint(text: str) -> bytes:
    """Print a page with WeasyPrint, which runs no scripts: structures stay empty."""
    import weasyprint

    log.warning("WeasyPrint runs no scripts: structures are missing from the PDF")
    return bytes(weasyprint.HTML(string=text).write_pdf())


def write_pdf(path: str, text: str, make: Callable[[str], bytes]) -> int:
    """Write a page as PDF; return the number of bytes."""
    data = make(text)
    with replacing(path) as file:
        file.write(data)
    return len(data)
