"""The embedded default base, with the manifest that says how it was made."""
