"""One metric a file; each imports its heavy package only when it is used."""
