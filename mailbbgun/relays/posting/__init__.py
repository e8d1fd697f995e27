"""The relay of mail that inbound routes post to URLs: ``relay``."""
