"""Sphinx extensions: those that read the manual's pages, and those that write from the code."""

from pathlib import Path

import pytest

from docs._ext import commands
from docs._ext.commands import Block, blocks
from docs._ext.rst import inline, table

ROOT = Path(__file__).parents[2]

PAGE = """
Title
=====

.. run until: a: b
.. code-block:: sh

   curl -i http://127.0.0.1:5000/ \\
        -d '{}'

   echo $ID

1. A list:

   .. not run: it needs a cluster
   .. code-block:: sh
      :emphasize-lines: 1

      # first this
      kubectl get pods

Text.

.. code-block:: python

   print("no comment says how")

.. nonsense
.. code-block:: sh

   true

.. code-block:: json

   {"no": "command"}
"""


def test_each_block_of_commands_is_found_with_what_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    page = tmp_path / "page.rst"
    page.write_text(PAGE)
    curl = "curl -i http://127.0.0.1:5000/ \\\n     -d '{}'\n\necho $ID\n"
    assert list(blocks(page)) == [
        Block("page.rst", 6, "sh", "run until", "a: b", curl),
        Block("page.rst", 16, "sh", "not run", "it needs a cluster", "# first this\nkubectl get pods\n"),
        Block("page.rst", 24, "python", "", "", 'print("no comment says how")\n'),
        Block("page.rst", 29, "sh", "", "", "true\n"),
    ]
    assert next(block for block in blocks(page) if block.how == "not run").beginning == "kubectl get pods"


@pytest.mark.parametrize(
    ("sentence", "written"),
    [
        ("Plain.", "Plain."),
        ("See `POST /messages`, *now*.", "See ``POST /messages``, \\*now\\*."),
        ("*.example.com and max_per_day_", "\\*.example.com and max\\_per\\_day\\_"),
        ("smtp://user@host|x", "smtp\\://user@host\\|x"),
        ("a ` alone", "a \\` alone"),
    ],
)
def test_a_sentence_of_the_code_is_shown_as_it_is_written(sentence: str, written: str) -> None:
    assert inline(sentence) == written


def test_a_table_keeps_the_lines_of_its_cells() -> None:
    assert table(("A", "B"), [("1", "2\n3")], "10 90") == (
        ".. list-table::\n   :header-rows: 1\n   :widths: 10 90\n\n"
        "   * - A\n     - B\n   * - 1\n     - 2\n       3\n"
    )  # fmt: skip


#: What waits or is refused without any server's word tells why; each file has these sentences.
WHY = {
    "routing/routes.py": ("may send from", "cannot be decrypted", "the SMTP account is no longer there, or enabled"),
    "worker/intake.py": ("the account's limits are used up for now",),
    "deliver/deliver.py": ("not tried, for the last one failed",),
    "deliver/retry.py": ("paused beyond its lease",),
}


def test_every_cause_that_is_told_in_our_own_words_is_in_the_reference() -> None:
    described = " ".join((ROOT / "docs/reference/events.rst").read_text().split())
    for file, sentences in WHY.items():
        code = (ROOT / "mailbbgun" / file).read_text()
        for sentence in sentences:
            assert sentence in code, (file, sentence)
            assert sentence in described, sentence
