"""The tensor maths of diffusion and of its distillation, pure torch: noise process, predictions, trajectory."""
