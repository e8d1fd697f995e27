"""Fits a message to what a server offers, before it is signed and sent.

``adapt`` decides what has to change. ``downgrade`` makes a header ASCII for servers without SMTPUTF8,
``seven_bit`` encodes bodies for servers without 8BITMIME. The same message always becomes the same
octets for the same server, so that retries are byte-identical.
"""
