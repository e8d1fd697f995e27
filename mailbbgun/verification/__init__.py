"""Verifies who sent a received message, and what it is: SPF, DKIM, DMARC, ARC, spam and viruses.

In: a message's octets, its envelope sender, the name and address of the client that brought it. Out: a
`SenderVerdict`; an Authentication-Results field for the message (RFC 8601); a decision for each recipient's
domain: accept, quarantine, defer or reject.

What it promises: a verdict for any octets. It takes at most `SECONDS` of waiting and a bounded number of DNS
queries and signatures, and its work grows no faster than the message. Nothing is stored.

Libraries do the protocols: pyspf is asked in `spf`, dkimpy in `signatures` (DKIM) and `chain` (ARC), the public
suffix list of tldextract in `alignment`. All of them ask the DNS through `look_ups`. `message` has a message's
octets and their canonical forms.
`dmarc` decides whether From is who it says. `verify` calls them in order and is the only function that a door needs
for this; `fields` writes the result into the message. `rspamd` and `scan` look at the content, `policy` decides.
"""
