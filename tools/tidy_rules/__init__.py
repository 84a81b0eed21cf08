"""The rules of tools/tidy.py, one module per kind."""
