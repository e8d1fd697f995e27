"""One content for the people of a CSV file, which may have a million rows.

In: a file and a content. Out: batches, and a file of rejected rows. Promise: however often it is
killed and repeated, each row gets one mail.

Files: ``people`` reads the file, ``campaign`` is the verb.
"""
