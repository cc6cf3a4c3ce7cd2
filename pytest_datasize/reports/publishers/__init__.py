"""Services that results are sent to, where they are set up."""
