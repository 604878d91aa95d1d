"""What stands in `tests/support/served_models.py`."""

from served_models import model, model_of_pictures, overflowing, scan

__all__ = ["model", "model_of_pictures", "overflowing", "scan"]
