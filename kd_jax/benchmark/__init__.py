"""Times forward passes and training steps: compiled, warm, interleaved."""
