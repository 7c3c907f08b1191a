"""Benchmarks with intervals: generate pictures, score them, compare; teacher and student under one harness."""
