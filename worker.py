"""Delivers mail: ``python worker.py``."""

from mailbbgun.worker import main

if __name__ == "__main__":
    main()
