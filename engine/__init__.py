"""Graphs of functions, run as supervised actors."""
