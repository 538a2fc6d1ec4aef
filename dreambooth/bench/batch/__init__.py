"""One personal model for each row of a table: what `bench` does for tables of the paper, done for customers, products and animals."""
