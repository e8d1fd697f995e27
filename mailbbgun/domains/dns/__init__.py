"""What the DNS has of a sending domain: ``records`` to publish, ``look`` for them, and ``findings`` to tell."""
