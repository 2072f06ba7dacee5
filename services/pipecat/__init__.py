"""Services of pipecat's catalogue, run for the engine ``pipecat`` of each of the three stages."""
