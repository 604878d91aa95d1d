"""One file per paper or baseline, found by looking in this folder."""
