"""The functions to call from a program or a notebook, with arrays."""
