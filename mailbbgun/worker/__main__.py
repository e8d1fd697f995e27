"""``python -m mailbbgun.worker``: the command of ``main.py``.

A supervisor starts its members so.
"""

from mailbbgun.environment import need

if __name__ == "__main__":
    need("worker", serves=True)
    from mailbbgun.core.process import run
    from mailbbgun.worker.main import main

    run("worker", main)
