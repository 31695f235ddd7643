"""What everything that talks to a person in a terminal shares: one-line errors, tables, bars."""
