"""The only package that imports nvflare."""

from sitelora.late_imports import import_late

import_late()  # a site's process starts here, and MONAI is imported below
