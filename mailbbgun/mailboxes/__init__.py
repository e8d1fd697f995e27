"""Mailboxes on this machine: Maildirs that store mail durably and stay within a number and a size.

In: the bytes of a message. Out: a file in the folder. Promise: a stored message survives a power
cut, until newer mail pushes it out.
"""
