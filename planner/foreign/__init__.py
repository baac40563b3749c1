"""Training configurations of other programs, read into the values that lplan asks for."""
