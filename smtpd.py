"""Takes mail in by SMTP: ``python smtpd.py``."""

if __name__ == "__main__":
    from mailbbgun.environment import need

    need("smtpd", serves=True)
    from mailbbgun.core.process import run
    from mailbbgun.smtpd.main import main

    run("smtpd", main)
