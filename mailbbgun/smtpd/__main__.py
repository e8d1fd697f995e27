"""``python -m mailbbgun.smtpd``: the command of ``main.py``. A supervisor starts its members so."""

from mailbbgun.environment import need

if __name__ == "__main__":
    need("smtpd", serves=True)
    from mailbbgun.core.process import run
    from mailbbgun.smtpd.main import main

    run("smtpd", main)
