"""Where the contents of files are kept: one module for each kind of place, and `files.py` for what engines do with it.

Nothing is imported here: who keeps files in a folder needs no client of a cloud.
"""
