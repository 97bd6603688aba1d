# SPDX-License-Identifier: LGPL-3.0-or-later
"""Formulas as MathML, which browsers draw by themselves: pages need no script and no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)


def translated(writer, node, *, block: bool) -> str:
    """Return a formula as MathML; warn where it cannot be translated, and return it as it is."""
    try:
        return tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        log.warning("formula: %s", error, location=node)
        return writer.encode(node.astext())


def inline(writer, node):
    """Write a formula inside a line."""
    writer.body.append(translated(writer, node, block=False))
    raise nodes.SkipNode


def display(writer, node):
    """Write a formula of its own."""
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    writer.body.append(translated(writer, node, block=True))
    writer.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
