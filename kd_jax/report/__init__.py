"""Makes tables and plots from the files that runs wrote."""
