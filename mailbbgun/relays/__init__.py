"""The ways out: a relay carries one envelope and tells what became of each recipient.

In: ``attempt(envelope, before_dot, after_dot)``. Out: ``{recipient: Outcome}``. A smart host, the
servers of a recipient's domain (MX) and the connections that are kept between messages; the
step-by-step probe of a server.
"""
