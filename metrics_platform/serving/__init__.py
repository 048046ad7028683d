"""What people and programs read: the live table and the formats of answers."""
