"""From a recipe and prompts to a student LoRA (and, for the minis, to a teacher)."""
