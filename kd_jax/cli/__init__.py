"""The command line: runs recipes, and lists them."""
