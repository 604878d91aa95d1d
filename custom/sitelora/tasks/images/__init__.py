"""Tools of every task: how an image is hung and windowed, and the card that a case's picture is drawn on."""
