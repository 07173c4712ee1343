"""Files as others made them: archives, folders of images, pickles and arrays, none of them trusted."""
