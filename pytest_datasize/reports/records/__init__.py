"""The records of a session as plain data, and the files that hold them; reports draw from them."""
