"""The web app: shows runs and draws digits with their generators. It does not train."""
