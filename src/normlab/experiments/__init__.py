"""The experiments, the claims they test, and the report."""
