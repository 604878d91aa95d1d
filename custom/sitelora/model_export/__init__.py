"""From a site's model to a MONAI bundle that a workstation takes, and the versions of it beside each other."""
