"""Tools of tasks whose truth is one class of a case: decisions, scores of many cases, their plots, a case's picture."""
