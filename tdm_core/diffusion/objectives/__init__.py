"""What a student is trained towards, each objective as pure functions of tensors."""
