"""Training on Ray: recipes, the loop, and the run store that its readers share."""
