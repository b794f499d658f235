"""Tables and plots from the files that runs wrote, and from nothing else."""
