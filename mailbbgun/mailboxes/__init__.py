"""Mail that is kept here: a Maildir that is written durably and never outgrows its bounds."""
