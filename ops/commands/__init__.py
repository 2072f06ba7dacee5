"""One file per command of ``callbus``; each exports a click command that ``ops.main`` loads when it is asked for."""
