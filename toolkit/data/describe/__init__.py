"""What there is in a data set, in words, numbers and pictures: `python -m toolkit describe FOLDER`."""
