"""The emoji world, pure: captions, pixels and a judge that sees pixels only."""
