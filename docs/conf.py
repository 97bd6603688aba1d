# SPDX-License-Identifier: LGPL-3.0-or-later
"""Configuration of the documentation. Building it needs no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from deepmd import __version__

project = "DeePMD-kit"
author = "the developers"
version = release = __version__
html_title = f"{project} {release}"

extensions = ["myst_parser", "mathml", "generated"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
nitpicky = True

html_theme = "furo"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
