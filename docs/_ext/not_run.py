"""``.. not-run::`` lists the manual's commands that no test runs, each with its reason."""

from pathlib import PurePath

from commands import blocks, pages
from docutils.nodes import Node
from rst import code, inline, table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class NotRun(SphinxDirective):
    """Lists these commands."""

    def run(self) -> list[Node]:
        """Return a table."""
        self.env.note_reread()
        left_out = [block for page in pages() for block in blocks(page) if block.how == "not run"]
        rows = [(_link(block.page), code(block.beginning), inline(block.told)) for block in left_out]
        return self.parse_text_to_nodes(table(("Page", "Begins with", "Why no test runs it"), rows, "20 45 35"))


def _link(page: str) -> str:
    path = PurePath(page)
    return f":doc:`/{path.relative_to('docs').with_suffix('')}`" if path.parts[0] == "docs" else code(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("not-run", NotRun)
    return {"parallel_read_safe": True}
