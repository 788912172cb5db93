"""The pictures, one file an experiment. Each takes measured numbers and returns a matplotlib Figure."""
