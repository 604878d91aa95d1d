"""Metrics in native space, case by case."""
