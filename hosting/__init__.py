"""Where the app is hosted: the folder of a Hugging Face Space, and what an operator's machine needs."""
