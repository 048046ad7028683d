"""How good the numbers were: revisions of the past, corrections with their causes, usual errors."""
