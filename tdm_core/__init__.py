"""Few-step diffusion, seen, tested and made: see README.md."""
