"""The use cases: what the command line, the library's user and the flows all call."""
