"""Configures Sphinx. Build the manual with: .venv/bin/sphinx-build -W -n docs docs/_build"""

import logging
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

from mailbbgun import __version__  # noqa: E402 - it is found only now

logging.getLogger("alembic").setLevel(logging.WARNING)  # alembic logs its plugins when it is imported

project = "Mail BB Gun"
copyright = "2026, Mail BB Gun contributors"
release = version = __version__

extensions = [
    "sphinx_copybutton",
    "setting_list",
    "error_codes",
    "event_kinds",
    "own_replies",
    "http_api",
    "command_line",
    "not_run",
]
exclude_patterns = ["_build"]
smartquotes = False  # the manual quotes commands and settings: straight quotes must stay straight
nitpicky = True
highlight_language = "none"

html_theme = "furo"
html_title = "Mail BB Gun"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
