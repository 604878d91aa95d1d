"""One round at one site, what survives on disk, the server's side, and a whole federation in a loop."""
