"""The page: one file per tab, our own HTTP routes and the viewer."""
