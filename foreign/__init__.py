"""What comes from strangers, read with bounds: pictures, files, names. Nothing in it is executed. This room imports no other of ours."""
