"""How clients read the log of their tenant: pages of it, from a place or a cursor on, and waiting for more.

Files: ``pages`` reads a page and says where the next one begins; ``cursor`` has what clients do with named cursors;
``watch`` lets requests wait for events without a thread for each.
"""
