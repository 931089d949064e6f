"""The execution semantics once more, for comparison: slow, plain and independent of the engine."""
