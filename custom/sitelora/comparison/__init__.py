"""Methods side by side at equal budgets: runs as JSON files, and pages computed from those files alone."""
