"""One suite per contract, run against every driver of it."""
