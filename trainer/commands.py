"""COMMANDS: the commands of `python -m trainer` besides the recipes."""

COMMANDS = {
    "recipes": ("trainer.list_recipes", "lists the recipes"),
    "fetch": ("trainer.fetch", "gets data other than MNIST"),
    "train-reader": ("trainer.train_reader", "trains the reader that scores the generators of a dataset"),
    "evaluate": ("trainer.evaluate", "scores the generator of a run"),
    "submit": ("trainer.submit", "trains a recipe on a cluster, as a Ray job"),
    "export": ("trainer.export", "writes a run to TensorBoard, MLflow or CSV files"),
    "ship": ("trainer.ship", "copies a finished run into pretrained/"),
}
"""Commands other than recipes: name -> (module whose `main(arguments)` runs it, what it does)."""
