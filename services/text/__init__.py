"""Text between what is written and what is spoken. Pure: no I/O, no clock."""
