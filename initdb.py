"""Creates or upgrades the database and declares the queue's topology; safe to repeat: ``python initdb.py``."""

from mailbbgun.install import main

if __name__ == "__main__":
    main()
