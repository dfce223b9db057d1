"""Networks, sampling and the generator file: everything that draws digits, and nothing that trains."""
