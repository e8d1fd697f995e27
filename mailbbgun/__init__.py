"""Mail BB Gun: a self-hosted transactional mail service.

A message's way: door → accept → messages (store) → queue → deliver → events. CONTRIBUTING.rst says
where to begin.
"""

__version__ = "0.1.0"
