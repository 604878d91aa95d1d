"""Corrected masks come back from an annotation tool to a site folder: which are fit, whose, what becomes of them."""
