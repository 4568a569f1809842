"""What is measured, as functions of arrays: no model, no file format of images and no device is known here."""
