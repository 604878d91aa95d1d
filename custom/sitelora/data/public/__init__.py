"""The public data sets: one converter a set, found by looking in this folder."""
