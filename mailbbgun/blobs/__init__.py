"""Files of any size under keys, in a folder or in an S3 bucket: one contract, two drivers.

In: a key and the blocks of a file. Out: the same blocks, or a link to them. What it promises: a file
that ``put`` has stored survives a power cut; it is stored whole or not at all; and no file is held in
memory as a whole. This room knows nothing of tenants and messages.

Files: ``base`` is the contract, ``folder`` and ``s3`` are its drivers, ``url`` reads ``BLOBS_URL``.
"""
