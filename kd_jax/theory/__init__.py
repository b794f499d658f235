"""Computes the paper's two lemmas and its claim about Bayes' teacher."""
