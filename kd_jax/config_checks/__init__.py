"""Checks a config before any work is done; each error names a field."""
