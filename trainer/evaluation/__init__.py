"""What a model knows before and after training: scored answers, held-out loss, general knowledge, speed."""
