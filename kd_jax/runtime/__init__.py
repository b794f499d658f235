"""Files, devices, processes and errors; every other folder builds on these."""
