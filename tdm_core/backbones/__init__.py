"""How a published family of pipelines becomes one denoiser with the roles teacher, fake and student."""
