"""Times inference and training steps of a config's networks."""
