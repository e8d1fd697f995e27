"""The HTTP API: ``gunicorn api:app``, or ``python api.py``, which becomes that."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", str(here / "gunicorn.conf.py"), "--pythonpath", str(here), "api:app"])

from mailbbgun.app import create_app

app = create_app()
