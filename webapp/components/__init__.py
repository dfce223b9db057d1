"""The few parts of the app that JavaScript draws, each with its Python face."""
