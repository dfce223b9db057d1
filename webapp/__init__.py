"""The web app: shows runs, draws digits with their generators, and never trains."""
