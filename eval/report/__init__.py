"""Shows a comparison: in the terminal, as a page, as pictures, as CSV and in cards."""
