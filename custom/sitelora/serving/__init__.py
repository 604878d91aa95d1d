"""From a model file to masks: what a bundle's inference needs beside MONAI; no federation, no nvflare."""
