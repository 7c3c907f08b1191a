"""From a prompt and a seed to one sample of one role, with honest clocks."""
