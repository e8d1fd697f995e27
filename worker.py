"""Delivers mail: ``python worker.py``."""

if __name__ == "__main__":
    from mailbbgun.environment import need

    need("worker", serves=True)
    from mailbbgun.core.process import run
    from mailbbgun.worker.main import main

    run("worker", main)
