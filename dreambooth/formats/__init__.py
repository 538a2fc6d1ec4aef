"""Files that other programs wrote and read: LoRAs in, and results out, one file for each format."""
