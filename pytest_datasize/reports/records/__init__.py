"""What reports draw from: the records of a session as plain data, and the files that hold them."""
