"""One file a step, oldest first: v1, v2, ..."""
