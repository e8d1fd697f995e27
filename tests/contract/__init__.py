"""One test suite for each contract, run against every driver."""
