"""How the two databases keep the log.

Files: ``settled`` says which events readers may see, and keeps positions growing; ``partitions`` makes the months
of PostgreSQL's table ahead, and deletes what EVENT_DAYS says.
"""
