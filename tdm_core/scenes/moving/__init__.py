"""The emoji world in motion: clips of 9 frames, their captions, and a judge that sees pixels only."""
