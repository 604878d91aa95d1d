"""The benchmark: a protocol and claims frozen as data, runs for as long as they may go on, pages from their files."""
