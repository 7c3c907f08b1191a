"""Entry points of training: `python -m train.distill` and `python -m train.mini`."""
