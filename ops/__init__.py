"""What operators run: the ``callbus`` command."""
