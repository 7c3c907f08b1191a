"""What `make bench` runs, and the rows that its runs leave behind."""
