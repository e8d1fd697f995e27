"""``.. command-line:: PROGRAM MODULE`` describes one of our programs and all its commands.

The text comes from the program's click command.
"""

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from textwrap import indent

import click
from docutils.nodes import Node
from rst import code, inline, literal, title
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: Stands for a missing description.
IN_HTTP = "See the parameter or field of that name in :doc:`/reference/http`."


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        if not isinstance(parameter, click.Option) or {"--help", "--version"} & {*parameter.opts}:
            continue
        if record := parameter.get_help_record(context):
            yield f"{code(record[0])}\n{indent(inline(record[1]) or IN_HTTP, '   ')}\n"


def described(name: str, command: click.Command, underlines: str, above: click.Context | None = None) -> Iterator[str]:
    """Yield a section about a command, then one about each of its subcommands."""
    context = click.Context(command, info_name=name, parent=above)
    yield f".. _command-{context.command_path.replace(' ', '-').replace('/', '-')}:\n"
    yield title(context.command_path, underlines[0])
    if not isinstance(command, click.Group):
        yield literal(" ".join([context.command_path, *command.collect_usage_pieces(context)]))
    yield inline(cleandoc(command.help or "")) + "\n"
    yield from _options(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            if (one := command.get_command(context, below)) and not one.hidden:
                yield from described(below, one, underlines[1:] or underlines, context)


class CommandLine(SphinxDirective):
    """Describes a program."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Node]:
        """Return the program's section."""
        self.env.note_reread()
        program, _, module = self.arguments[0].rpartition(" ")
        command = import_module(module).main
        return self.parse_text_to_nodes("\n".join(described(program, command, "-~^")), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
