"""What a person looks at: curves, overlays, tables, one self-contained HTML page."""
