"""What files may be sent: names, types, archives, macros and viruses. Nothing is ever unpacked.

In: a file's name, the type that its sender declared, and its blocks as they pass by. Out: a name that
is safe to show and to save, the media type, and an error that says what is wrong with this file.

Files: `names` makes names safe. `formats` is the table of file formats, and recognises them by their
first octets. `archives` reads the list of files at the end of a ZIP archive. `examine` watches a
file's blocks and judges it by these three. `mail_files` finds the files in a whole mail. `scanner` asks
ClamAV.

What it promises: memory is bounded, whatever a file says about itself. No wait on the scanner is
longer than its time limit.
"""
