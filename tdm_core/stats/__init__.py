"""How uncertain a share or a difference is: intervals, clustering and resampling, pure NumPy and SciPy."""
