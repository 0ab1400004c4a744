"""One file per tab; a tab imports no other tab."""
