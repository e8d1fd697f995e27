"""The room of the SMTP accounts: the servers that a tenant's mail leaves through.

In: what a tenant says of a provider, or the name of one we know (``presets``). Out: where to connect, how, and how fast at most.
Promise: a preset is only data, and only what the provider documents; a tenant's own settings always win over it.
"""
