"""The paper's lemmas as experiments."""
