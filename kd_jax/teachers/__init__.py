"""A teacher and its outputs, computed once per data set and stored."""
