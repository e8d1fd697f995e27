"""Mail BB Gun: a self-hosted transactional mail service.

door → accept → messages (store) → queue → deliver → events. HACKING.rst is the map of the house.
"""

__version__ = "0.1.0"
