"""Whether joining a federation is likely to help one site, from its own data and what the benchmark has measured."""
