"""Creates or upgrades the database and declares the queues; safe to repeat:

``python initdb.py``.
"""

if __name__ == "__main__":
    from mailbbgun.environment import need

    need("initdb")
    from mailbbgun.core.process import run
    from mailbbgun.install import main

    run("initdb", main)
