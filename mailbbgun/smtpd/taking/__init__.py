"""Takes messages that came as a whole: makes a submission of each, and stores it.

``submissions`` takes what applications send. ``orders`` reads the ``X-MBG-`` fields of its header, and
``composed`` makes fields of a mail that is composed anew. ``trace`` has the fields that a server puts
before a message. ``storing`` waits for the commit, which messages that end together
share. ``incoming`` takes mail of other servers; ``verifying`` decides what happens to it.
"""
