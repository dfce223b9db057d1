"""Networks, sampling and the generator file: all that draws digits, nothing that trains."""
