"""GLOSSARY: the words of the page How it works, each explained in one or two sentences."""

from models.scores import SCORES

GLOSSARY = {
    "class": "What the forger is asked to draw, such as a 7. Forger and detective are both told the class.",
    "coverage": SCORES["coverage"].meaning + " It falls when whole kinds of handwriting are missing.",
    "density": SCORES["density"].meaning,
    "detective": "The discriminator: the network that judges pictures.",
    "discriminator": "The network that judges: it turns a picture and a class into one number, the verdict. Short: D.",
    "EMA": "Exponential moving average: the pictures are drawn with an average of the generator's weights over the "
    "last steps, which is steadier than the weights of a single step.",
    "epoch": "A fixed number of steps. At its end, a training draws sample pictures, and measures how good they are.",
    "FID": "Fréchet inception distance. " + SCORES["fid"].meaning + " Lower is better. It depends on the digit reader "
    "and on the number of pictures, so compare it only with the FID of as many real ones.",
    "forger": "The generator: the network that draws pictures.",
    "GAN": "Generative adversarial network: two networks that are trained against each other (Goodfellow et al. 2014).",
    "generator": "The network that draws: it turns random numbers and a class into a picture. Short: G.",
    "gradient": "For each weight or pixel, how a small change of it would change a result. Training follows it.",
    "label accuracy": SCORES["label_accuracy"].meaning + " A digit reader, a third network, reads them.",
    "latent": "The random numbers from which the forger draws one picture. The same ones always give the same picture.",
    "loss": "The number that a network is trained to make smaller: the worse it does its job, the larger.",
    "MMAC": "Millions of multiply-accumulate operations, a measure of the work for one picture.",
    "mode collapse": "The forger draws the same few pictures whatever the random numbers are.",
    "precision": SCORES["precision"].meaning,
    "projection": "How the class enters the discriminator: the features of the picture are multiplied by numbers that "
    "were learnt for each class (Miyato and Koyama 2018).",
    "recall": SCORES["recall"].meaning,
    "seed": "A whole number from which a computer makes random numbers. The same seed always makes the same ones.",
    "step": "One update of the weights of the detective, and one of the forger's, from one batch of pictures.",
    "training image": "A real picture from the data. The detective sees these and forgeries; the forger sees neither.",
    "verdict": "The number that the detective gives a picture, a logit: the higher, the more real. Only comparisons "
    "count, so 0 has no meaning of its own in this project's main recipe.",
    "weights": "The numbers of a network that training changes.",
}
"""Word -> what it means."""
