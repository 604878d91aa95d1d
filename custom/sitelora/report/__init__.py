"""What a run left, for people: read (results), told as plain facts (facts, tables, figures), shown (templates, text).

What a page says that is the same in every report stands in `templates/`; what a run decides stands in a fact.
"""
