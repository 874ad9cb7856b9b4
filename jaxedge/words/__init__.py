"""What people read and type: choices, quantities, tables of text, progress."""
