"""From a preset to a table with intervals: generate, score, compare."""
