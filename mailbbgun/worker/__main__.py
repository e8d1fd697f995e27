"""``python -m mailbbgun.worker``: the command of ``main.py``, as processes of ours start it."""

from mailbbgun.environment import need

if __name__ == "__main__":
    need("worker", serves=True)
    from mailbbgun.core.process import run
    from mailbbgun.worker.main import main

    run("worker", main)
