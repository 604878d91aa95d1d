"""Scores of a site's cases: through the bundle's own inference, summed up, drawn, and made anonymous."""
