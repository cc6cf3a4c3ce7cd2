"""What people and machines read; every report draws from the same records, never from a study."""
