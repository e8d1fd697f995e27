"""Checks finished MIME: `raw` what a client sends, `received` what another server sent."""
