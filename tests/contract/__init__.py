"""One suite for each contract, run against every driver of it."""
