"""The study: the questions of arXiv:2404.00836 answered with this package's model.

Each question has data, a figure, and a finding that is computed from the data. Only the abstract of
that paper is at hand: formulas, parameters and numbers are this package's.
"""
