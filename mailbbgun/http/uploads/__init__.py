"""Requests with files: their bodies go to disk while they come, and are read part by part.

In: the head of an upload, then its body in a file. Out: fields and files for a view. ``admission``
decides by the head whether the body may come; ``multipart`` reads multipart/form-data (RFC 7578).
"""
