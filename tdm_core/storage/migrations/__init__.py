"""The steps from one schema to the next; never changed once a database may have taken them."""
