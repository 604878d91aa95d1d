"""Tools of tasks whose truth is a mask: metrics of two masks, their outlines on an image, one case as a picture."""
