"""What members and processes missed of the groups that keep their messages."""
