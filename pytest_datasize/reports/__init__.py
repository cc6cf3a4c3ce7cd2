"""From records to reports."""
