"""``python -m mailbbgun.catcher``: the command of ``main.py``."""

from mailbbgun.environment import need

if __name__ == "__main__":
    need("catcher", serves=True)
    from mailbbgun.catcher.main import main
    from mailbbgun.core.process import run

    run("catcher", main)
