"""Files, devices, processes and errors: what all other folders stand on."""
