"""The telephone network on one side, the bus on the other."""
