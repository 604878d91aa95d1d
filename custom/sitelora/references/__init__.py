"""Methods that are no federated ones: what a paper trains on all images in one place, to compare with."""
