"""Server rules: pure functions from the sites' updates to the next messages, with the low-rank algebra."""
