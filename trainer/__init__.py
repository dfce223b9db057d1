"""Training with Ray: recipes, the training loop, and the run store, which the web app reads too."""
